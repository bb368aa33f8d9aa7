#include "server/gather_pause.h"

#include <gtest/gtest.h>

#include <string_view>

namespace detour::server {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

/// Runs turns of `packets` each, `period` apart, and tells how many of the last half asked for a
/// pause.
struct Outcome {
  int turns = 0;
  int pauses = 0;
};
Outcome run(GatherPause& pause, std::uint64_t packets, Duration period, Duration length) {
  Outcome result;
  std::uint64_t total = 0;
  const TimePoint start = TimePoint{} + std::chrono::hours(1);
  for (TimePoint now = start; now < start + length; now += period) {
    total += packets;
    const bool wanted = pause.wanted(total, now);
    if (now - start < length / 2) continue;
    ++result.turns;
    if (wanted) ++result.pauses;
  }
  return result;
}

TEST(GatherPause, PausesOnlyWhileBusyWithSmallTurns) {
  struct Case {
    std::string_view name;
    Duration pause;
    std::uint64_t packets;
    Duration period;
    bool pauses;
  };
  const Case cases[] = {
      {"hot, small turns", microseconds(100), 10, microseconds(100), true},
      {"hot, the largest small turn", microseconds(100), GatherPause::kSmallTurnPackets,
       microseconds(500), true},
      {"hot, turns that gather enough", microseconds(100), GatherPause::kSmallTurnPackets + 1,
       microseconds(500), false},
      {"just below the rate", microseconds(100), 1, microseconds(51), false},
      {"above the rate", microseconds(100), 1, microseconds(40), true},
      {"quiet", microseconds(100), 1, milliseconds(10), false},
      {"no packets", microseconds(100), 0, microseconds(100), false},
      {"switched off", Duration::zero(), 10, microseconds(100), false},
  };
  for (const auto& [name, length, packets, period, pauses] : cases) {
    SCOPED_TRACE(name);
    GatherPause pause(length);
    const Outcome result = run(pause, packets, period, milliseconds(200));
    ASSERT_GT(result.turns, 5);
    EXPECT_EQ(result.pauses, pauses ? result.turns : 0);
  }
}

TEST(GatherPause, CoolsDownWithinTwoWindows) {
  GatherPause pause(microseconds(100));
  TimePoint now = TimePoint{} + std::chrono::hours(1);
  std::uint64_t total = 0;
  for (int i = 0; i < 200; ++i) {
    now += microseconds(100);
    total += 10;
    static_cast<void>(pause.wanted(total, now));
  }
  EXPECT_TRUE(pause.wanted(++total, now));
  EXPECT_FALSE(pause.wanted(total, now)) << "a turn without packets has nothing to gather";
  now += GatherPause::kWindow;
  static_cast<void>(pause.wanted(++total, now));  // Half of this window was busy.
  now += GatherPause::kWindow;
  EXPECT_FALSE(pause.wanted(++total, now));
}

}  // namespace
}  // namespace detour::server
