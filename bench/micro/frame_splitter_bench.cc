#include <benchmark/benchmark.h>

#include <span>

#include "base/check.h"
#include "relay/frame_splitter.h"
#include "support/frames.h"

namespace detour::relay {
namespace {

/// Splits one read's worth of SendPackets of range(0) bytes.
void split_frames(benchmark::State& state) {
  constexpr std::size_t kReadSize = 128 * 1024;
  const auto frame = test::send_packet_frame(
      test::numbered_key(1), test::plain_packet(static_cast<std::size_t>(state.range(0))));
  test::Bytes stream;
  while (stream.size() + frame.size() <= kReadSize)
    stream.insert(stream.end(), frame.begin(), frame.end());

  FrameSplitter splitter(false);
  std::int64_t frames = 0;
  for (auto _ : state) {
    std::span<const std::uint8_t> input(stream);
    for (auto next = splitter.next(input); next && *next; next = splitter.next(input)) ++frames;
    DETOUR_CHECK(input.empty());
  }
  state.SetItemsProcessed(frames);
}
BENCHMARK(split_frames)->Arg(100)->Arg(1400)->Arg(60000);

}  // namespace
}  // namespace detour::relay
