#pragma once

#include <expected>
#include <string>

#include "crypto/keys.h"

namespace detour::cli {

/// The relay's own key, from its file.
struct LoadedKey {
  crypto::NodePrivate key;
  bool just_made = false;  ///< The file was not there; it is now.
};

/// Reads the relay's private key (config/key_file.h), or makes one when the file does not exist.
///
/// A new file appears at once or not at all, readable only by this user; missing folders are made.
/// An existing file is never written to. Fails with a message for the operator: file, what is
/// wrong, what to do.
[[nodiscard]] std::expected<LoadedKey, std::string> load_or_make_key(const std::string& path);

}  // namespace detour::cli
