#include <benchmark/benchmark.h>

#include <cstring>
#include <utility>

#include "relay/send_queues.h"
#include "support/frames.h"

namespace detour::relay {
namespace {

FrameBatch batch_of(BufferPool& pool, std::span<const std::uint8_t> frame, std::size_t frames) {
  FrameBatch batch;
  batch.block = pool.get(frame.size() * frames);
  for (std::size_t i = 0; i < frames; ++i) {
    std::memcpy(batch.block.data() + batch.size, frame.data(), frame.size());
    batch.size += frame.size();
  }
  return batch;
}

/// Queues range(0) packets of 1,400 bytes for a client whose socket is full, and takes them out:
/// beyond 32 the oldest make way.
void queue_and_drain(benchmark::State& state) {
  constexpr TimePoint kNow = TimePoint{} + std::chrono::hours(1);
  const auto packets = static_cast<std::size_t>(state.range(0));
  const auto frame = test::recv_packet_frame(test::numbered_key(1), test::plain_packet(1400));
  BufferPool pool;
  metrics::WorkerCounters counters;
  SendQueues queues(QueueLimits{});
  ByteBuffer out;
  const FrameBatch batch = batch_of(pool, frame, packets);
  for (auto _ : state) {
    queues.push(batch, kNow, pool, counters);
    const auto stats = queues.pop(out, std::size_t{1} << 30U, kNow, pool, counters);
    benchmark::DoNotOptimize(stats);
    out.clear();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(packets));
}
BENCHMARK(queue_and_drain)->Arg(1)->Arg(32)->Arg(64);

}  // namespace
}  // namespace detour::relay
