#include "acme/encoding.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <array>

#include "base/check.h"

namespace detour::acme {
namespace {

constexpr std::string_view kUrlAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr std::string_view kStandardAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::optional<Bytes> decode(std::string_view text, std::string_view alphabet) {
  // One character left over holds no whole byte.
  if (text.size() % 4 == 1) return std::nullopt;
  Bytes bytes;
  std::uint32_t bits = 0;
  unsigned int held = 0;
  for (const char c : text) {
    const auto value = alphabet.find(c);
    if (value == std::string_view::npos) return std::nullopt;
    bits = bits << 6U | static_cast<std::uint32_t>(value);
    held += 6;
    if (held < 8) continue;
    held -= 8;
    bytes.push_back(static_cast<std::uint8_t>(bits >> held));
  }
  return bytes;
}

}  // namespace

std::string base64url(std::span<const std::uint8_t> bytes) {
  std::string text;
  text.reserve((bytes.size() * 4 + 2) / 3);
  std::uint32_t bits = 0;
  unsigned int held = 0;
  for (const std::uint8_t byte : bytes) {
    bits = bits << 8U | byte;
    held += 8;
    while (held >= 6) {
      held -= 6;
      text += kUrlAlphabet[bits >> held & 0x3fU];
    }
  }
  if (held != 0) text += kUrlAlphabet[bits << (6 - held) & 0x3fU];
  return text;
}

std::string base64url(std::string_view text) {
  return base64url({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
}

std::optional<Bytes> decode_base64(std::string_view text) {
  if (auto bytes = decode(text, kUrlAlphabet)) return bytes;
  if (text.size() % 4 != 0) return std::nullopt;
  for (int padding = 0; padding < 2 && text.ends_with('='); ++padding) text.remove_suffix(1);
  return decode(text, kStandardAlphabet);
}

Bytes sha256(std::string_view text) {
  Bytes digest(EVP_MAX_MD_SIZE);
  unsigned int size = 0;
  DETOUR_CHECK(EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha256(), nullptr) ==
               1);
  digest.resize(size);
  return digest;
}

Bytes hmac_sha256(std::span<const std::uint8_t> key, std::string_view text) {
  Bytes digest(EVP_MAX_MD_SIZE);
  unsigned int size = 0;
  DETOUR_CHECK(HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
                    reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data(),
                    &size) != nullptr);
  digest.resize(size);
  return digest;
}

}  // namespace detour::acme
