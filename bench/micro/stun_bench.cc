#include <benchmark/benchmark.h>

#include "base/check.h"
#include "stun/stun.h"

namespace detour::stun {
namespace {

/// Reads a request and writes the answer.
void answer_request(benchmark::State& state) {
  const auto request = encode_request({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
  const Endpoint source{.address = std::array<std::uint8_t, 4>{203, 0, 113, 7}, .port = 41641};
  for (auto _ : state) {
    const auto id = parse_request(request);
    DETOUR_CHECK(id.has_value());
    benchmark::DoNotOptimize(encode_response(*id, source));
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(answer_request);

/// Refuses what is not for us, as in a flood.
void refuse_datagram(benchmark::State& state) {
  auto request = encode_request({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
  request.back() ^= 1U;
  for (auto _ : state) DETOUR_CHECK(!parse_request(request).has_value());
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(refuse_datagram);

}  // namespace
}  // namespace detour::stun
