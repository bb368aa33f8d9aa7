#pragma once

#include <expected>
#include <string>

#include "crypto/keys.h"

namespace detour::config {

/// The relay's own key, from its file.
struct LoadedKey {
  crypto::NodePrivate key;
  bool just_made = false;  ///< The file was not there; it is now.
};

/// Reads the relay's private key in derper's format, or makes one when the file does not exist.
///
/// Format: a JSON object with the field `PrivateKey` (its name in any case), `privkey:` and 64 hex
/// digits; other fields are ignored. A new file appears at once or not at all, readable only by
/// this user, tab-indented without a newline at its end, byte for byte as derper writes it; missing
/// folders are made. An existing file is never written to.
///
/// Fails with a message for the operator (file, what is wrong, what to do) when the file cannot be
/// read by this user, is not a regular file, is empty, larger than 64 KiB, not JSON, or has no key
/// or a zero key.
[[nodiscard]] std::expected<LoadedKey, std::string> load_or_make_key(const std::string& path);

}  // namespace detour::config
