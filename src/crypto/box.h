#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "crypto/keys.h"

namespace detour::crypto {

/// NaCl crypto_box (curve25519xsalsa20poly1305), as DERP uses it (protocol: NaCl box).

inline constexpr std::size_t kNonceSize = 24;
inline constexpr std::size_t kBoxTagSize = 16;
/// What a box is longer than its plaintext, with the nonce in front.
inline constexpr std::size_t kBoxOverhead = kNonceSize + kBoxTagSize;

using Nonce = std::array<std::uint8_t, kNonceSize>;

/// The key that two parties share (crypto_box_beforenm). Costs one X25519, so it is computed once
/// per login and used for both directions. Wiped when destroyed.
class SharedKey {
 public:
  /// Fails with kClientKeyInvalid when `peer` is zero or another low-order point.
  [[nodiscard]] static Result<SharedKey> derive(const NodePrivate& own, const NodePublic& peer);

  SharedKey(const SharedKey&) = default;
  SharedKey& operator=(const SharedKey&) = default;
  ~SharedKey();

  /// Opens `nonce (24) || tag (16) || ciphertext`. Fails with kBoxInvalid.
  [[nodiscard]] Result<std::vector<std::uint8_t>> open(std::span<const std::uint8_t> box) const;

  /// Seals `plaintext` into `nonce (24) || tag (16) || ciphertext` with a random nonce.
  [[nodiscard]] std::vector<std::uint8_t> seal(std::span<const std::uint8_t> plaintext) const;
  /// The same with a given nonce, for golden tests.
  [[nodiscard]] std::vector<std::uint8_t> seal(std::span<const std::uint8_t> plaintext,
                                               const Nonce& nonce) const;

 private:
  SharedKey() = default;
  std::array<std::uint8_t, kKeySize> bytes_{};
};

}  // namespace detour::crypto
