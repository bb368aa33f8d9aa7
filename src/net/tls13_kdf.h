#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

/// The key schedule of TLS 1.3 (RFC 8446 section 7.1), as far as the record layer needs it.
namespace detour::net::tls13 {

enum class Hash : std::uint8_t { kSha256, kSha384 };

inline constexpr std::size_t kHashSizeMax = 48;

[[nodiscard]] constexpr std::size_t hash_size(Hash hash) {
  return hash == Hash::kSha256 ? 32 : 48;
}

/// A secret of up to kHashSizeMax bytes, wiped when it goes away. Cannot be printed or compared.
class Secret {
 public:
  Secret() = default;
  explicit Secret(std::span<const std::uint8_t> bytes);
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;
  Secret(Secret&& other) noexcept;
  Secret& operator=(Secret&& other) noexcept;
  ~Secret();

  [[nodiscard]] std::span<const std::uint8_t> bytes() const { return {bytes_.data(), size_}; }
  [[nodiscard]] bool empty() const { return size_ == 0; }

 private:
  void wipe();

  std::array<std::uint8_t, kHashSizeMax> bytes_{};
  std::size_t size_ = 0;
};

/// HMAC (RFC 2104). `out` takes hash_size(hash) bytes.
void hmac(Hash hash, std::span<const std::uint8_t> key, std::span<const std::uint8_t> message,
          std::span<std::uint8_t> out);

/// The hash of nothing, hash_size(hash) bytes.
[[nodiscard]] std::span<const std::uint8_t> empty_hash(Hash hash);

inline constexpr std::size_t kLabelSizeMax = 12;  ///< The longest label of RFC 8446.

/// HKDF-Expand-Label (RFC 8446 section 7.1) with the prefix "tls13 ". `out` is at most
/// hash_size(hash) bytes, `label` at most kLabelSizeMax, `context` at most kHashSizeMax; false when
/// one of them is longer.
[[nodiscard]] bool expand_label(Hash hash, std::span<const std::uint8_t> secret,
                                std::string_view label, std::span<const std::uint8_t> context,
                                std::span<std::uint8_t> out);

/// The secret that follows after a KeyUpdate (RFC 8446 section 7.2).
[[nodiscard]] Secret next_secret(Hash hash, const Secret& secret);

}  // namespace detour::net::tls13
