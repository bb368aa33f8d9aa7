#include <benchmark/benchmark.h>

#include <vector>

#include "metrics/exposition.h"

namespace detour::metrics {
namespace {

/// Adds up the counters of range(0) workers and writes the page that Prometheus reads.
void metrics_page(benchmark::State& state) {
  const std::vector<WorkerCounters> workers(static_cast<std::size_t>(state.range(0)));
  std::int64_t bytes = 0;
  for (auto _ : state) {
    Snapshot snapshot;
    for (const auto& worker : workers) accumulate(snapshot, worker);
    bytes += static_cast<std::int64_t>(format_prometheus(snapshot).size());
  }
  state.SetBytesProcessed(bytes);
}
BENCHMARK(metrics_page)->Arg(1)->Arg(64);

void expvar_page(benchmark::State& state) {
  const Snapshot snapshot;
  std::int64_t bytes = 0;
  for (auto _ : state) bytes += static_cast<std::int64_t>(format_expvar_json(snapshot).size());
  state.SetBytesProcessed(bytes);
}
BENCHMARK(expvar_page);

}  // namespace
}  // namespace detour::metrics
