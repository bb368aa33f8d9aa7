#include "net/timer_wheel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <vector>

namespace detour::net {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr Duration kTick = TimerWheel::kTick;
/// Not on the border of a tick.
constexpr TimePoint kStart = TimePoint{} + std::chrono::hours(1000) + milliseconds(5);

/// Remembers when it fired, then does what the test wants.
class TestTimer final : public Timer {
 public:
  std::function<void(TimePoint)> action = [](TimePoint) {};
  std::vector<TimePoint> fired;

 private:
  void on_timer(TimePoint now) override {
    fired.push_back(now);
    action(now);
  }
};

TEST(TimerWheel, FiresNeverEarlyAndAtMostOneTickLate) {
  std::vector<Duration> delays = {Duration::zero(), nanoseconds(1), milliseconds(1),
                                  seconds(1),       seconds(60),    seconds(130),
                                  seconds(131),     seconds(132),   seconds(600)};
  for (int ticks = 1; ticks <= 3; ++ticks) {
    // Up to the border of a tick, on it, and behind it.
    for (const Duration off : {Duration(-1), Duration(0), Duration(1), Duration(milliseconds(5))})
      delays.push_back(ticks * kTick - milliseconds(5) + off);
  }
  for (const Duration delay : delays) {
    SCOPED_TRACE(delay.count());
    TimerWheel wheel(kStart);
    TestTimer timer;
    const TimePoint deadline = kStart + delay;
    wheel.arm(timer, deadline);
    EXPECT_EQ(timer.deadline(), deadline);
    TimePoint now = kStart;
    // As a worker sleeps: as long as the wheel says. Each wake-up has to bring it nearer.
    for (int wakes = 0; timer.fired.empty(); ++wakes) {
      ASSERT_LT(wakes, 10) << "wakes up for nothing";
      ASSERT_TRUE(timer.is_armed());
      const auto wait = wheel.time_to_next(now);
      ASSERT_TRUE(wait.has_value());
      ASSERT_TRUE(*wait > Duration::zero() || wakes == 0);
      now += *wait;
      wheel.advance(now);
    }
    ASSERT_EQ(timer.fired.size(), 1U);
    EXPECT_GE(timer.fired[0], deadline);
    EXPECT_LE(timer.fired[0], deadline + kTick);
    EXPECT_FALSE(timer.is_armed());
    EXPECT_EQ(wheel.time_to_next(now), std::nullopt);
  }
}

TEST(TimerWheel, ADeadlineInThePastFiresWithTheNextTick) {
  TimerWheel wheel(kStart);
  TestTimer timer;
  wheel.arm(timer, kStart - seconds(10));
  wheel.advance(kStart);
  EXPECT_TRUE(timer.fired.empty()) << "this tick has been handled";
  wheel.advance(kStart + kTick);
  EXPECT_EQ(timer.fired.size(), 1U);
}

TEST(TimerWheel, WhatIsDisarmedMovedOrDestroyedDoesNotFire) {
  TimerWheel wheel(kStart);
  TestTimer disarmed;
  TestTimer moved;
  auto destroyed = std::make_unique<TestTimer>();
  TestTimer stays;
  for (Timer* const timer : {static_cast<Timer*>(&disarmed), static_cast<Timer*>(&moved),
                             static_cast<Timer*>(destroyed.get()), static_cast<Timer*>(&stays)})
    wheel.arm(*timer, kStart + seconds(1));
  wheel.disarm(disarmed);
  wheel.disarm(disarmed);
  wheel.arm(moved, kStart + seconds(5));
  destroyed.reset();
  wheel.advance(kStart + seconds(2));
  EXPECT_EQ(stays.fired.size(), 1U);
  EXPECT_TRUE(disarmed.fired.empty());
  EXPECT_TRUE(moved.fired.empty());
  EXPECT_FALSE(disarmed.is_armed());

  wheel.arm(moved, kStart + seconds(3));
  wheel.advance(kStart + seconds(4));
  EXPECT_EQ(moved.fired.size(), 1U) << "moved forward again";
  EXPECT_EQ(wheel.time_to_next(kStart + seconds(4)), std::nullopt);
}

TEST(TimerWheel, AnyOrderOfLeavingKeepsTheOthersInPlace) {
  // Timers of one slot are linked; take out each of them first.
  for (std::size_t out = 0; out < 5; ++out) {
    SCOPED_TRACE(out);
    TimerWheel wheel(kStart);
    std::vector<TestTimer> timers(5);
    for (TestTimer& timer : timers) wheel.arm(timer, kStart + seconds(1));
    wheel.disarm(timers[out]);
    wheel.advance(kStart + seconds(2));
    for (std::size_t i = 0; i < timers.size(); ++i)
      EXPECT_EQ(timers[i].fired.size(), i == out ? 0U : 1U);
  }
}

TEST(TimerWheel, HandlersMayArmAndDisarmAnything) {
  TimerWheel wheel(kStart);
  TestTimer again;
  TestTimer first;
  TestTimer second;
  TestTimer other;
  auto doomed = std::make_unique<TestTimer>();
  again.action = [&](TimePoint now) {
    if (again.fired.size() < 5) wheel.arm(again, now + seconds(1));
  };
  // Of these two, in one slot, whichever fires first stops the other one.
  first.action = [&](TimePoint) { wheel.disarm(second); };
  second.action = [&](TimePoint) { wheel.disarm(first); };
  other.action = [&](TimePoint now) {
    doomed.reset();
    wheel.arm(other, now);  // At once: not within this call, or it would never end.
    if (other.fired.size() == 3) wheel.disarm(other);
  };
  wheel.arm(again, kStart + seconds(1));
  wheel.arm(first, kStart + seconds(1));
  wheel.arm(second, kStart + seconds(1));
  wheel.arm(other, kStart + seconds(1));
  wheel.arm(*doomed, kStart + seconds(20));

  wheel.advance(kStart + seconds(1) + kTick);
  EXPECT_EQ(first.fired.size() + second.fired.size(), 1U);
  EXPECT_EQ(other.fired.size(), 1U);
  TimePoint now = kStart + seconds(1) + kTick;
  while (const auto wait = wheel.time_to_next(now)) {
    now += *wait;
    wheel.advance(now);
    ASSERT_LT(now, kStart + seconds(60));
  }
  EXPECT_EQ(again.fired.size(), 5U);
  EXPECT_EQ(other.fired.size(), 3U);
  EXPECT_EQ(doomed, nullptr);
}

TEST(TimerWheel, CatchesUpAfterSleepsOfAnyLength) {
  for (const Duration sleep : {Duration(seconds(1)), Duration(seconds(130)), Duration(seconds(131)),
                               Duration(seconds(132)), Duration(std::chrono::hours(1)),
                               Duration(std::chrono::hours(24 * 365))}) {
    SCOPED_TRACE(sleep.count());
    TimerWheel wheel(kStart);
    TestTimer before;
    TestTimer exactly;
    TestTimer after;
    TestTimer rearmed;
    wheel.arm(before, kStart + sleep / 2);
    wheel.arm(exactly, kStart + sleep - kTick);
    wheel.arm(after, kStart + sleep + milliseconds(1));
    wheel.arm(rearmed, kStart + milliseconds(1));
    rearmed.action = [&](TimePoint now) {
      if (rearmed.fired.size() == 1) wheel.arm(rearmed, now);
    };
    const TimePoint now = kStart + sleep;
    wheel.advance(now);
    EXPECT_EQ(before.fired.size(), 1U);
    EXPECT_EQ(exactly.fired.size(), 1U);
    EXPECT_TRUE(after.fired.empty());
    EXPECT_TRUE(after.is_armed());
    EXPECT_EQ(rearmed.fired.size(), 1U) << "once for one call, however many ticks passed";

    wheel.advance(now + milliseconds(1) + kTick);
    EXPECT_EQ(after.fired.size(), 1U);
    EXPECT_EQ(rearmed.fired.size(), 2U);
  }
}

TEST(TimerWheel, ArmsCorrectlyAfterASleepWithoutTimers) {
  // The wheel stands still while nothing is armed and nobody advances it.
  TimerWheel wheel(kStart);
  const TimePoint now = kStart + std::chrono::hours(10);
  TestTimer timer;
  wheel.arm(timer, now + seconds(10));
  wheel.advance(now);
  EXPECT_TRUE(timer.fired.empty());
  const auto wait = wheel.time_to_next(now);
  ASSERT_TRUE(wait.has_value());
  EXPECT_LE(*wait, seconds(10) + kTick);
  wheel.advance(now + seconds(10) + kTick);
  EXPECT_EQ(timer.fired.size(), 1U);
}

TEST(TimerWheel, DoesWhatASortedListWouldDo) {
  for (const std::uint32_t seed : {1U, 2U, 3U, 4U, 5U, 6U, 7U, 8U}) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    const auto below = [&random](std::uint32_t limit) {
      return std::uniform_int_distribution<std::uint32_t>(0, limit - 1)(random);
    };
    TimerWheel wheel(kStart);
    std::vector<std::unique_ptr<TestTimer>> timers;
    // When each is due: a deadline that was in the past already is due when it is armed.
    std::vector<std::optional<TimePoint>> model(100);
    TimePoint now = kStart;
    std::size_t fired_total = 0;

    const auto random_delay = [&]() -> Duration {
      switch (below(6)) {
        case 0:
          return Duration::zero();
        case 1:
          return -milliseconds(below(1000));
        case 2:
          return nanoseconds(below(100'000'000));
        case 3:
          return milliseconds(below(10'000));
        case 4:
          return milliseconds(below(140'000));
        default:
          return seconds(below(1000));
      }
    };
    for (std::size_t i = 0; i < model.size(); ++i) {
      timers.push_back(std::make_unique<TestTimer>());
      timers.back()->action = [&, i](TimePoint at) {
        ++fired_total;
        ASSERT_TRUE(model[i].has_value()) << "fired without being armed";
        EXPECT_LE(*model[i], at) << "fired early";
        model[i].reset();
        if (below(3) == 0) {
          const TimePoint deadline = at + random_delay();
          wheel.arm(*timers[i], deadline);
          model[i] = std::max(deadline, at);
        }
        if (below(5) == 0) {
          const std::size_t other = below(static_cast<std::uint32_t>(model.size()));
          wheel.disarm(*timers[other]);
          model[other].reset();
        }
      };
    }
    for (int step = 0; step < 3000; ++step) {
      const std::size_t which = below(static_cast<std::uint32_t>(model.size()));
      switch (below(4)) {
        case 0:
        case 1: {
          const TimePoint deadline = now + random_delay();
          wheel.arm(*timers[which], deadline);
          model[which] = std::max(deadline, now);
          break;
        }
        case 2:
          wheel.disarm(*timers[which]);
          model[which].reset();
          break;
        default:
          switch (below(8)) {
            case 0:
              now += seconds(below(400));
              break;
            case 1:
            case 2:
              if (const auto wait = wheel.time_to_next(now)) now += *wait;
              break;
            default:
              now += nanoseconds(below(200'000'000));
          }
          wheel.advance(now);
          for (std::size_t i = 0; i < model.size(); ++i) {
            ASSERT_EQ(timers[i]->is_armed(), model[i].has_value());
            if (model[i]) {
              ASSERT_GT(*model[i] + kTick, now) << "timer " << i << " is late, step " << step;
            }
          }
      }
      // The wheel never sleeps past what is due.
      const auto earliest = std::ranges::min_element(model, [](const auto& a, const auto& b) {
        return a.value_or(TimePoint::max()) < b.value_or(TimePoint::max());
      });
      const auto wait = wheel.time_to_next(now);
      ASSERT_EQ(wait.has_value(), earliest->has_value());
      if (wait) {
        ASSERT_LE(now + *wait, std::max(**earliest, now) + kTick);
      }
    }
    EXPECT_GT(fired_total, 200U);
  }
}

}  // namespace
}  // namespace detour::net
