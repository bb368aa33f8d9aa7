#pragma once

#include <expected>
#include <string>
#include <string_view>

#include "crypto/keys.h"

/// The content of the relay's key file. Reading and writing the file is cli/relay_key.h.
namespace detour::config {

/// The relay's private key out of the content of its file, in derper's format: a JSON object with
/// the field `PrivateKey` (its name in any case), `privkey:` and 64 hex digits. Other fields are
/// ignored, and the last of several counts, as in Go.
///
/// Fails with a message that begins with `path` and says what to do. The message never has any part
/// of a key in it.
[[nodiscard]] std::expected<crypto::NodePrivate, std::string> parse_key_file(
    const std::string& path, std::string_view content);

/// The file's content for a key, byte for byte as derper writes it: tab-indented JSON without a
/// newline at its end. It is a secret: wipe it after use.
[[nodiscard]] std::string format_key_file(const crypto::NodePrivate& key);

}  // namespace detour::config
