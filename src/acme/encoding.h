#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// The encodings of JSON Web Signatures (RFC 7515): base64url without padding, and hashes.
namespace detour::acme {

using Bytes = std::vector<std::uint8_t>;

[[nodiscard]] std::string base64url(std::span<const std::uint8_t> bytes);
[[nodiscard]] std::string base64url(std::string_view text);

/// Reads base64url without padding, or else base64 with its padding: authorities give keys for
/// account binding in either form. Nullopt when it is neither.
[[nodiscard]] std::optional<Bytes> decode_base64(std::string_view text);

[[nodiscard]] Bytes sha256(std::string_view text);
[[nodiscard]] Bytes hmac_sha256(std::span<const std::uint8_t> key, std::string_view text);

}  // namespace detour::acme
