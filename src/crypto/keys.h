#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace detour::crypto {

inline constexpr std::size_t kKeySize = 32;

/// A node's public key (X25519), which is also its address in the relay. A value.
///
/// Text forms (spec: key text encodings): typed `nodekey:` + 64 hex digits, untyped 64 lower-case
/// hex digits, short `[` + first five base64 characters + `]` for logs.
class NodePublic {
 public:
  constexpr NodePublic() = default;

  [[nodiscard]] static NodePublic from_bytes(std::span<const std::uint8_t, kKeySize> bytes) {
    NodePublic key;
    std::memcpy(key.bytes_.data(), bytes.data(), kKeySize);
    return key;
  }
  /// From `nodekey:` + 64 hex digits of either case. Fails with kKeyTextInvalid.
  [[nodiscard]] static Result<NodePublic> parse(std::string_view typed_text);

  [[nodiscard]] std::span<const std::uint8_t, kKeySize> bytes() const { return bytes_; }
  [[nodiscard]] bool is_zero() const { return *this == NodePublic{}; }
  /// 64 lower-case hex digits.
  [[nodiscard]] std::string hex() const;
  /// `nodekey:` + 64 lower-case hex digits.
  [[nodiscard]] std::string typed() const;
  /// `[D6poT]`; empty for the zero key.
  [[nodiscard]] std::string short_text() const;

  friend bool operator==(const NodePublic& a, const NodePublic& b) {
    return std::memcmp(a.bytes_.data(), b.bytes_.data(), kKeySize) == 0;
  }
  friend std::strong_ordering operator<=>(const NodePublic& a, const NodePublic& b) {
    return std::memcmp(a.bytes_.data(), b.bytes_.data(), kKeySize) <=> 0;
  }

 private:
  std::array<std::uint8_t, kKeySize> bytes_{};
};

/// A node's private key. Wiped when destroyed; not printable, not comparable.
class NodePrivate {
 public:
  NodePrivate() = default;
  NodePrivate(const NodePrivate&) = default;
  NodePrivate& operator=(const NodePrivate&) = default;
  ~NodePrivate();

  /// 32 random bytes, clamped for X25519.
  [[nodiscard]] static NodePrivate generate();
  [[nodiscard]] static NodePrivate from_bytes(std::span<const std::uint8_t, kKeySize> bytes);
  /// From `privkey:` + 64 hex digits of either case. Fails with kKeyTextInvalid.
  [[nodiscard]] static Result<NodePrivate> parse(std::string_view typed_text);

  [[nodiscard]] NodePublic public_key() const;
  [[nodiscard]] bool is_zero() const;
  /// For the key file and the box functions only.
  [[nodiscard]] std::span<const std::uint8_t, kKeySize> secret_bytes() const { return bytes_; }
  /// `privkey:` + 64 lower-case hex digits, for the key file only.
  [[nodiscard]] std::string typed_secret() const;

 private:
  std::array<std::uint8_t, kKeySize> bytes_{};
};

/// The secret that the relays of one region share. Compared in constant time; zero means "none".
class MeshKey {
 public:
  MeshKey() = default;
  MeshKey(const MeshKey&) = default;
  MeshKey& operator=(const MeshKey&) = default;
  ~MeshKey();

  /// From exactly 64 hex digits of either case, nothing around them. Fails with kMeshKeyInvalid.
  [[nodiscard]] static Result<MeshKey> parse(std::string_view hex);

  [[nodiscard]] bool is_zero() const;
  /// Constant-time equality; false when either key is zero.
  [[nodiscard]] bool matches(const MeshKey& other) const;
  /// 64 lower-case hex digits, for our own ClientInfo towards mesh peers.
  [[nodiscard]] std::string hex_secret() const;

 private:
  std::array<std::uint8_t, kKeySize> bytes_{};
};

/// Prepares the crypto library; call once before any thread starts. False when it cannot be used.
[[nodiscard]] bool init();

/// Fills `out` with random bytes from the system.
void random_bytes(std::span<std::uint8_t> out);

/// Overwrites `bytes` so that the compiler cannot leave it out.
void wipe(std::span<std::uint8_t> bytes);

}  // namespace detour::crypto
