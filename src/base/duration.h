#pragma once

#include <chrono>

#include "base/clock.h"

namespace detour {

/// For people: a time in milliseconds, with its fraction.
[[nodiscard]] inline double in_milliseconds(Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

}  // namespace detour
