#include <benchmark/benchmark.h>

#include <memory>
#include <vector>

#include "base/check.h"
#include "relay/directory.h"
#include "support/frames.h"
#include "support/relay_fakes.h"

namespace detour::relay {
namespace {

/// A directory with `count` clients.
struct FullDirectory {
  explicit FullDirectory(std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
      clients.push_back(std::make_unique<Client>());
      test::set_up(*clients.back(), directory.next_id(), test::numbered_key(i));
      static_cast<void>(directory.add(*clients.back()));
    }
  }
  ~FullDirectory() {
    for (const auto& client : clients) static_cast<void>(directory.remove(*client));
    quiescence.collect();
  }
  FullDirectory(const FullDirectory&) = delete;
  FullDirectory& operator=(const FullDirectory&) = delete;

  Quiescence quiescence{1};
  Directory directory{quiescence};
  std::vector<std::unique_ptr<Client>> clients;
};

/// Looks keys up in no order among range(0) that are there.
void find_key(benchmark::State& state) {
  const auto count = static_cast<std::uint32_t>(state.range(0));
  const FullDirectory full(count);
  std::uint32_t at = 0;
  for (auto _ : state) {
    at = (at + 7919) % count;  // A prime: no neighbours.
    const Client* found = full.directory.find(full.clients[at]->identity().key);
    DETOUR_CHECK(found == full.clients[at].get());
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(find_key)->RangeMultiplier(10)->Range(10, 100'000);

/// Looks up who is not there.
void find_nobody(benchmark::State& state) {
  const auto count = static_cast<std::uint32_t>(state.range(0));
  const FullDirectory full(count);
  std::uint32_t at = count;
  for (auto _ : state) {
    const Client* found = full.directory.find(test::numbered_key(at++ | 0x80000000U));
    DETOUR_CHECK(found == nullptr);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(find_nobody)->Arg(10)->Arg(100'000);

/// One client comes and goes beside range(0) others.
void log_in_and_out(benchmark::State& state) {
  const auto count = static_cast<std::uint32_t>(state.range(0));
  FullDirectory full(count);
  for (auto _ : state) {
    auto client = std::make_unique<Client>();
    test::set_up(*client, full.directory.next_id(), test::numbered_key(count));
    static_cast<void>(full.directory.add(*client));
    static_cast<void>(full.directory.remove(*client));
    full.quiescence.retire(std::move(client));
    full.quiescence.collect();
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(log_in_and_out)->Arg(10)->Arg(100'000);

}  // namespace
}  // namespace detour::relay
