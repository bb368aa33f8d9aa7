#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace detour::fuzz {

/// Takes `size` bytes, or what is left of them, off the front of `input`.
[[nodiscard]] inline std::span<const std::uint8_t> take(std::span<const std::uint8_t>& input,
                                                        std::size_t size) {
  const auto taken = input.first(std::min(size, input.size()));
  input = input.subspan(taken.size());
  return taken;
}

/// Takes one byte, or 0 when there is none left.
[[nodiscard]] inline std::uint8_t take_byte(std::span<const std::uint8_t>& input) {
  const auto taken = take(input, 1);
  return taken.empty() ? std::uint8_t{0} : taken.front();
}

}  // namespace detour::fuzz
