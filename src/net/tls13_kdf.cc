// The functions of one hash each are the fast ones: what replaces them looks its algorithm up on
// every call, which costs a handshake more than its signature does.
#define OPENSSL_SUPPRESS_DEPRECATED

#include "net/tls13_kdf.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace detour::net::tls13 {

namespace {

struct Sha256 {
  static constexpr std::size_t kSize = SHA256_DIGEST_LENGTH;
  static constexpr std::size_t kBlockSize = SHA256_CBLOCK;
  Sha256() { SHA256_Init(&state); }
  void update(std::span<const std::uint8_t> bytes) {
    SHA256_Update(&state, bytes.data(), bytes.size());
  }
  void finish(std::uint8_t* out) { SHA256_Final(out, &state); }
  SHA256_CTX state;
};

struct Sha384 {
  static constexpr std::size_t kSize = SHA384_DIGEST_LENGTH;
  static constexpr std::size_t kBlockSize = SHA512_CBLOCK;
  Sha384() { SHA384_Init(&state); }
  void update(std::span<const std::uint8_t> bytes) {
    SHA384_Update(&state, bytes.data(), bytes.size());
  }
  void finish(std::uint8_t* out) { SHA384_Final(out, &state); }
  SHA512_CTX state;
};

/// A hash that has taken `key`, padded to a block and combined with `pad` (RFC 2104).
template <typename H>
H keyed(std::span<const std::uint8_t> key, std::uint8_t pad) {
  std::array<std::uint8_t, H::kBlockSize> block{};
  if (key.size() > H::kBlockSize) {
    H hash;
    hash.update(key);
    hash.finish(block.data());
  } else {
    std::ranges::copy(key, block.begin());
  }
  for (std::uint8_t& byte : block) byte ^= pad;
  H hash;
  hash.update(block);
  OPENSSL_cleanse(block.data(), block.size());
  return hash;
}

template <typename H>
void hmac_with(std::span<const std::uint8_t> key, std::span<const std::uint8_t> message,
               std::uint8_t* out) {
  std::array<std::uint8_t, H::kSize> digest;
  H inner = keyed<H>(key, 0x36);
  inner.update(message);
  inner.finish(digest.data());
  H outer = keyed<H>(key, 0x5c);
  outer.update(digest);
  outer.finish(out);
  OPENSSL_cleanse(digest.data(), digest.size());
  OPENSSL_cleanse(&inner, sizeof inner);
  OPENSSL_cleanse(&outer, sizeof outer);
}

template <typename H>
std::array<std::uint8_t, H::kSize> hash_of_nothing() {
  std::array<std::uint8_t, H::kSize> digest;
  H hash;
  hash.finish(digest.data());
  return digest;
}

constexpr std::string_view kPrefix = "tls13 ";

}  // namespace

Secret::Secret(std::span<const std::uint8_t> bytes) : size_(bytes.size()) {
  DETOUR_CHECK(bytes.size() <= kHashSizeMax);
  std::ranges::copy(bytes, bytes_.begin());
}

Secret::Secret(Secret&& other) noexcept : bytes_(other.bytes_), size_(other.size_) {
  other.wipe();
}

Secret& Secret::operator=(Secret&& other) noexcept {
  if (this == &other) return *this;
  bytes_ = other.bytes_;
  size_ = other.size_;
  other.wipe();
  return *this;
}

Secret::~Secret() {
  wipe();
}

void Secret::wipe() {
  OPENSSL_cleanse(bytes_.data(), bytes_.size());
  size_ = 0;
}

void hmac(Hash hash, std::span<const std::uint8_t> key, std::span<const std::uint8_t> message,
          std::span<std::uint8_t> out) {
  DETOUR_CHECK(out.size() >= hash_size(hash));
  if (hash == Hash::kSha256) {
    hmac_with<Sha256>(key, message, out.data());
  } else {
    hmac_with<Sha384>(key, message, out.data());
  }
}

std::span<const std::uint8_t> empty_hash(Hash hash) {
  static const auto sha256 = hash_of_nothing<Sha256>();
  static const auto sha384 = hash_of_nothing<Sha384>();
  if (hash == Hash::kSha256) return sha256;
  return sha384;
}

bool expand_label(Hash hash, std::span<const std::uint8_t> secret, std::string_view label,
                  std::span<const std::uint8_t> context, std::span<std::uint8_t> out) {
  if (label.size() > kLabelSizeMax || context.size() > kHashSizeMax || out.size() > hash_size(hash))
    return false;
  // HkdfLabel: u16 length, label and context each behind a byte of size; then HKDF's counter, which
  // is 1, because the output is never longer than one hash.
  std::array<std::uint8_t, 2 + 1 + kPrefix.size() + kLabelSizeMax + 1 + kHashSizeMax + 1> info;
  auto* at = info.data();
  *at++ = 0;
  *at++ = static_cast<std::uint8_t>(out.size());
  *at++ = static_cast<std::uint8_t>(kPrefix.size() + label.size());
  at = std::ranges::copy(kPrefix, at).out;
  at = std::ranges::copy(label, at).out;
  *at++ = static_cast<std::uint8_t>(context.size());
  at = std::ranges::copy(context, at).out;
  *at++ = 1;

  std::array<std::uint8_t, kHashSizeMax> block;
  hmac(hash, secret, {info.data(), static_cast<std::size_t>(at - info.data())}, block);
  std::memcpy(out.data(), block.data(), out.size());
  OPENSSL_cleanse(block.data(), block.size());
  return true;
}

Secret next_secret(Hash hash, const Secret& secret) {
  std::array<std::uint8_t, kHashSizeMax> bytes;
  const std::span next(bytes.data(), hash_size(hash));
  DETOUR_CHECK(expand_label(hash, secret.bytes(), "traffic upd", {}, next));
  Secret made(next);
  OPENSSL_cleanse(bytes.data(), bytes.size());
  return made;
}

}  // namespace detour::net::tls13
