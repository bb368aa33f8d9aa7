#include <benchmark/benchmark.h>

#include "base/token_bucket.h"

namespace detour {
namespace {

/// Takes tokens at twice the rate at which they come.
void take_token(benchmark::State& state) {
  TokenBucket bucket(1e6, 100);
  TimePoint now = TimePoint{} + std::chrono::hours(1);
  for (auto _ : state) {
    now += std::chrono::nanoseconds(500);
    benchmark::DoNotOptimize(bucket.take(now));
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(take_token);

}  // namespace
}  // namespace detour
