#include "server/gather_pause.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string_view>

namespace detour::server {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

/// What the second half of some turns were asked to sleep.
struct Outcome {
  int turns = 0;
  int pauses = 0;
  Duration shortest = Duration::max();
  Duration longest{};
};
/// Runs turns of `packets` each by all of `senders`, `period` apart.
Outcome run(GatherPause& pause, std::uint64_t packets, std::uint64_t senders, Duration period,
            Duration length) {
  Outcome result;
  std::uint64_t total = 0;
  const TimePoint start = TimePoint{} + std::chrono::hours(1);
  for (TimePoint now = start; now < start + length; now += period) {
    total += packets;
    for (std::uint64_t sender = 0; sender < senders; ++sender) pause.saw(1000 + sender);
    const Duration wanted = pause.wanted(total, now);
    if (now - start < length / 2) continue;
    ++result.turns;
    if (wanted == Duration::zero()) continue;
    ++result.pauses;
    result.shortest = std::min(result.shortest, wanted);
    result.longest = std::max(result.longest, wanted);
  }
  return result;
}

TEST(GatherPause, PausesOnlyWhileBusyWithSmallTurns) {
  struct Case {
    std::string_view name;
    Duration pause_max;
    std::uint64_t packets;
    Duration period;
    bool pauses;
  };
  const Case cases[] = {
      {"hot, small turns", microseconds(500), 10, microseconds(100), true},
      {"hot, the largest small turn", microseconds(500), GatherPause::kSmallTurnPackets,
       microseconds(500), true},
      {"hot, turns that gather enough", microseconds(500), GatherPause::kSmallTurnPackets + 1,
       microseconds(500), false},
      {"just below the rate", microseconds(500), 1, microseconds(34), false},
      {"above the rate", microseconds(500), 1, microseconds(32), true},
      {"quiet", microseconds(500), 1, milliseconds(10), false},
      {"no packets", microseconds(500), 0, microseconds(100), false},
      {"switched off", Duration::zero(), 10, microseconds(100), false},
  };
  for (const auto& [name, pause_max, packets, period, pauses] : cases) {
    SCOPED_TRACE(name);
    GatherPause pause(pause_max);
    const Outcome result = run(pause, packets, 1, period, milliseconds(400));
    ASSERT_GT(result.turns, 5);
    EXPECT_EQ(result.pauses, pauses ? result.turns : 0);
  }
}

TEST(GatherPause, IsAsLongAsEachSenderTakesForAFewPackets) {
  struct Case {
    std::string_view name;
    Duration pause_max;
    std::uint64_t packets;  // each 100 us
    std::uint64_t senders;
    Duration low;
    Duration high;
  };
  const Case cases[] = {
      {"one fast sender: the shortest", microseconds(500), 12, 1, GatherPause::kPauseMin,
       GatherPause::kPauseMin},
      {"the shortest is no longer than what is allowed", microseconds(30), 12, 1, microseconds(30),
       microseconds(30)},
      {"ten at 20,000 a second each", microseconds(500), 20, 10, microseconds(190),
       microseconds(210)},
      {"ten at 4,000 a second each: the longest", microseconds(500), 4, 10, microseconds(500),
       microseconds(500)},
      {"ten at 4,000 a second each, a longer one allowed", milliseconds(10), 4, 10,
       microseconds(950), microseconds(1050)},
  };
  for (const auto& [name, pause_max, packets, senders, low, high] : cases) {
    SCOPED_TRACE(name);
    GatherPause pause(pause_max);
    const Outcome result = run(pause, packets, senders, microseconds(100), milliseconds(400));
    EXPECT_EQ(result.pauses, result.turns);
    EXPECT_GE(result.shortest, low);
    EXPECT_LE(result.longest, high);
  }
}

/// A line below the hot rate whose packets come in bursts above it.
TEST(GatherPause, BurstsOnALineThatIsNotHotWaitForNothing) {
  GatherPause pause(microseconds(500));
  TimePoint now = TimePoint{} + std::chrono::hours(1);
  std::uint64_t total = 0;
  for (int turn = 0; turn < 10'000; ++turn) {
    now += microseconds(100);
    const bool in_burst = turn / 50 % 2 == 0;  // 5 ms each, at 40,000 and 15,000 packets a second.
    const bool even = turn % 2 == 0;
    total += in_burst ? std::uint64_t{4} : even ? std::uint64_t{1} : std::uint64_t{2};
    ASSERT_EQ(pause.wanted(total, now), Duration::zero()) << "turn " << turn;
  }
}

TEST(GatherPause, NeverSleepsLongerThanAllowedAfterALongSilence) {
  GatherPause pause(microseconds(500));
  static_cast<void>(pause.wanted(0, TimePoint{} + std::chrono::hours(1)));
  EXPECT_LE(pause.wanted(std::uint64_t{1} << 40, TimePoint{} + std::chrono::hours(100)),
            microseconds(500));
}

TEST(GatherPause, CoolsDownWithinTwoWindows) {
  GatherPause pause(microseconds(500));
  TimePoint now = TimePoint{} + std::chrono::hours(1);
  std::uint64_t total = 0;
  for (int i = 0; i < 1000; ++i) {
    now += microseconds(100);
    total += 10;
    static_cast<void>(pause.wanted(total, now));
  }
  EXPECT_NE(pause.wanted(++total, now), Duration::zero());
  EXPECT_EQ(pause.wanted(total, now), Duration::zero())
      << "a turn without packets has nothing to gather";
  now += GatherPause::kWindow;
  static_cast<void>(pause.wanted(++total, now));  // Half of this window was busy.
  now += GatherPause::kWindow;
  EXPECT_EQ(pause.wanted(++total, now), Duration::zero());
}

}  // namespace
}  // namespace detour::server
