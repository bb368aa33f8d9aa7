#include <benchmark/benchmark.h>

#include <memory>
#include <vector>

#include "base/check.h"
#include "net/timer_wheel.h"

namespace detour::net {
namespace {

constexpr TimePoint kStart = TimePoint{} + std::chrono::hours(1000);

class CountingTimer final : public Timer {
 public:
  std::uint64_t fired = 0;

 private:
  void on_timer(TimePoint) override { ++fired; }
};

/// Moves the deadline of one timer after the other beside range(0) that are armed.
void move_deadline(benchmark::State& state) {
  TimerWheel wheel(kStart);
  std::vector<std::unique_ptr<CountingTimer>> timers;
  for (std::int64_t i = 0; i < state.range(0); ++i) {
    timers.push_back(std::make_unique<CountingTimer>());
    wheel.arm(*timers.back(), kStart + std::chrono::milliseconds(i % 60'000));
  }
  std::size_t at = 0;
  Duration delay = std::chrono::seconds(1);
  for (auto _ : state) {
    wheel.arm(*timers[at], kStart + delay);
    at = (at + 1) % timers.size();
    delay = delay > std::chrono::seconds(60) ? std::chrono::seconds(1)
                                             : delay + std::chrono::milliseconds(7);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(move_deadline)->Arg(100)->Arg(10'000);

/// Goes on by one tick in which range(0) timers fire.
void fire_tick(benchmark::State& state) {
  TimePoint now = kStart;
  TimerWheel wheel(now);
  std::vector<std::unique_ptr<CountingTimer>> timers;
  for (std::int64_t i = 0; i < state.range(0); ++i)
    timers.push_back(std::make_unique<CountingTimer>());
  for (auto _ : state) {
    for (const auto& timer : timers) wheel.arm(*timer, now + TimerWheel::kTick);
    now += 2 * TimerWheel::kTick;
    wheel.advance(now);
    DETOUR_CHECK(!wheel.time_to_next(now));
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(fire_tick)->Arg(1)->Arg(1000);

}  // namespace
}  // namespace detour::net
