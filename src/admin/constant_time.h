#pragma once

#include <cstddef>
#include <string_view>

namespace detour::admin {

/// Equality that takes as long for any two texts of one length, because one of them is a secret.
[[nodiscard]] inline bool equal_in_constant_time(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference |= static_cast<unsigned>(static_cast<unsigned char>(a[i] ^ b[i]));
  }
  return difference == 0;
}

}  // namespace detour::admin
