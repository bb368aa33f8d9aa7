#pragma once

#include <chrono>

namespace detour {

/// Monotonic time. A loop reads it once per turn and passes it down as `now`.
using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;
using Duration = Clock::duration;

}  // namespace detour
