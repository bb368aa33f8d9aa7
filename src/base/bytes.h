#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace detour {

/// Network byte order, for protocol fields. Sizes are in the types, so no bounds are checked here.

template <std::unsigned_integral T>
[[nodiscard]] constexpr T from_big_endian(T value) {
  if constexpr (std::endian::native == std::endian::little) return std::byteswap(value);
  return value;
}

[[nodiscard]] inline std::uint16_t read_be16(std::span<const std::uint8_t, 2> bytes) {
  std::uint16_t value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return from_big_endian(value);
}

[[nodiscard]] inline std::uint32_t read_be32(std::span<const std::uint8_t, 4> bytes) {
  std::uint32_t value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return from_big_endian(value);
}

inline void write_be16(std::span<std::uint8_t, 2> out, std::uint16_t value) {
  value = from_big_endian(value);
  std::memcpy(out.data(), &value, sizeof value);
}

inline void write_be32(std::span<std::uint8_t, 4> out, std::uint32_t value) {
  value = from_big_endian(value);
  std::memcpy(out.data(), &value, sizeof value);
}

/// The bytes of a text, for interfaces that take bytes. Valid as long as `text` is.
[[nodiscard]] inline std::span<const std::uint8_t> as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

/// The text in some bytes, unchecked. Valid as long as `bytes` is.
[[nodiscard]] inline std::string_view as_text(std::span<const std::uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace detour
