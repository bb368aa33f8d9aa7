#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace detour::test {

/// Bytes of a hex text as documents print them: white space between digits is ignored.
[[nodiscard]] inline std::vector<std::uint8_t> unhex(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::vector<std::uint8_t> bytes;
  unsigned value = 0;
  bool half = false;
  for (const char c : text) {
    if (c == ' ' || c == '\n') continue;
    const std::size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) throw std::invalid_argument("not hex");
    value = value << 4 | static_cast<unsigned>(digit);
    if (half) bytes.push_back(static_cast<std::uint8_t>(value & 0xff));
    half = !half;
  }
  if (half) throw std::invalid_argument("odd number of hex digits");
  return bytes;
}

/// Lower-case hex digits of some bytes, for readable failures.
[[nodiscard]] inline std::string hex(std::span<const std::uint8_t> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const std::uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 0xf];
  }
  return text;
}

}  // namespace detour::test
