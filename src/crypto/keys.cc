#include "crypto/keys.h"

#include <sodium.h>

#include "base/check.h"

namespace detour::crypto {
namespace {

constexpr std::size_t kHexSize = 2 * kKeySize;
constexpr std::string_view kPublicPrefix = "nodekey:";
constexpr std::string_view kPrivatePrefix = "privkey:";
constexpr std::size_t kShortTextDigits = 5;

static_assert(crypto_box_PUBLICKEYBYTES == kKeySize && crypto_box_SECRETKEYBYTES == kKeySize);

/// 64 hex digits of either case, nothing around them, into `out`. Takes the same time for any
/// digits, because some of these keys are secret.
[[nodiscard]] bool decode_hex(std::string_view hex, std::span<std::uint8_t, kKeySize> out) {
  if (hex.size() != kHexSize) return false;

  std::size_t decoded_size = 0;
  const char* end = nullptr;
  const int status = sodium_hex2bin(out.data(), out.size(), hex.data(), hex.size(),
                                    /*ignore=*/nullptr, &decoded_size, &end);
  return status == 0 && decoded_size == kKeySize && end == hex.data() + hex.size();
}

[[nodiscard]] std::string encode_hex(std::span<const std::uint8_t, kKeySize> bytes) {
  std::string text(kHexSize, '\0');
  // data() has room for the terminator that sodium writes behind the digits.
  sodium_bin2hex(text.data(), text.size() + 1, bytes.data(), bytes.size());
  return text;
}

/// Bytes of a typed text form, or nothing when prefix, length or digits are wrong.
[[nodiscard]] bool decode_typed(std::string_view text, std::string_view prefix,
                                std::span<std::uint8_t, kKeySize> out) {
  return text.starts_with(prefix) && decode_hex(text.substr(prefix.size()), out);
}

}  // namespace

Result<NodePublic> NodePublic::parse(std::string_view typed_text) {
  NodePublic key;
  if (!decode_typed(typed_text, kPublicPrefix, key.bytes_)) return fail(ErrorCode::kKeyTextInvalid);
  return key;
}

std::string NodePublic::hex() const {
  return encode_hex(bytes_);
}

std::string NodePublic::typed() const {
  return std::string(kPublicPrefix) + hex();
}

std::string NodePublic::short_text() const {
  if (is_zero()) return {};

  constexpr int kVariant = sodium_base64_VARIANT_ORIGINAL;
  std::array<char, sodium_base64_ENCODED_LEN(kKeySize, kVariant)> base64;
  sodium_bin2base64(base64.data(), base64.size(), bytes_.data(), bytes_.size(), kVariant);
  return "[" + std::string(base64.data(), kShortTextDigits) + "]";
}

NodePrivate::~NodePrivate() {
  wipe(bytes_);
}

NodePrivate NodePrivate::generate() {
  NodePrivate key;
  random_bytes(key.bytes_);
  // Clamping as RFC 7748 section 5 asks. X25519 would do it itself, but the key file holds the
  // clamped form, as derper writes it.
  key.bytes_[0] &= 0xf8;
  key.bytes_[kKeySize - 1] = static_cast<std::uint8_t>((key.bytes_[kKeySize - 1] & 0x7f) | 0x40);
  return key;
}

NodePrivate NodePrivate::from_bytes(std::span<const std::uint8_t, kKeySize> bytes) {
  NodePrivate key;
  std::memcpy(key.bytes_.data(), bytes.data(), kKeySize);
  return key;
}

Result<NodePrivate> NodePrivate::parse(std::string_view typed_text) {
  NodePrivate key;
  if (!decode_typed(typed_text, kPrivatePrefix, key.bytes_)) {
    return fail(ErrorCode::kKeyTextInvalid);
  }
  return key;
}

NodePublic NodePrivate::public_key() const {
  std::array<std::uint8_t, kKeySize> bytes;
  // Multiplying the base point cannot fail: it has no small order.
  DETOUR_CHECK(crypto_scalarmult_base(bytes.data(), bytes_.data()) == 0);
  return NodePublic::from_bytes(bytes);
}

bool NodePrivate::is_zero() const {
  return sodium_is_zero(bytes_.data(), bytes_.size()) == 1;
}

std::string NodePrivate::typed_secret() const {
  std::string text(kPrivatePrefix);
  text.reserve(kPrivatePrefix.size() + kHexSize);
  std::string digits = encode_hex(bytes_);
  text += digits;
  sodium_memzero(digits.data(), digits.size());
  return text;
}

MeshKey::~MeshKey() {
  wipe(bytes_);
}

Result<MeshKey> MeshKey::parse(std::string_view hex) {
  MeshKey key;
  if (!decode_hex(hex, key.bytes_)) return fail(ErrorCode::kMeshKeyInvalid);
  return key;
}

bool MeshKey::is_zero() const {
  return sodium_is_zero(bytes_.data(), bytes_.size()) == 1;
}

bool MeshKey::matches(const MeshKey& other) const {
  const bool equal = sodium_memcmp(bytes_.data(), other.bytes_.data(), kKeySize) == 0;
  return equal && !is_zero();
}

std::string MeshKey::hex_secret() const {
  return encode_hex(bytes_);
}

bool init() {
  return sodium_init() >= 0;
}

void random_bytes(std::span<std::uint8_t> out) {
  randombytes_buf(out.data(), out.size());
}

void wipe(std::span<std::uint8_t> bytes) {
  sodium_memzero(bytes.data(), bytes.size());
}

}  // namespace detour::crypto
