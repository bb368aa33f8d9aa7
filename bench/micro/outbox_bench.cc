#include <benchmark/benchmark.h>

#include <memory>
#include <utility>
#include <vector>

#include "relay/outbox.h"
#include "support/frames.h"
#include "support/relay_fakes.h"

namespace detour::relay {
namespace {

/// Takes batches and gives their memory back at once.
class ReturnedDelivery final : public Delivery {
 public:
  explicit ReturnedDelivery(BufferPool& pool) : pool_(pool) {}
  void deliver(Client&, FrameBatch batch) override {
    benchmark::DoNotOptimize(batch.size);
    pool_.put(std::move(batch.block));
  }

 private:
  BufferPool& pool_;
};

/// A turn that gathers 64 packets of 1,400 bytes for range(0) destinations.
void gather_turn(benchmark::State& state) {
  constexpr std::size_t kPackets = 64;
  BufferPool pool;
  ReturnedDelivery delivery(pool);
  Outbox outbox(pool, delivery);
  std::vector<std::unique_ptr<Client>> clients;
  for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(state.range(0)); ++i) {
    clients.push_back(std::make_unique<Client>());
    test::set_up(*clients.back(), i + 1, test::numbered_key(i + 1));
  }
  const auto source = test::numbered_key(1'000'000);
  const auto packet = test::plain_packet(1400);
  for (auto _ : state) {
    for (std::size_t i = 0; i < kPackets; ++i)
      outbox.add_packet(*clients[i % clients.size()], source, packet, metrics::PacketKind::kOther);
    outbox.flush();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kPackets));
}
BENCHMARK(gather_turn)->Arg(1)->Arg(8)->Arg(64);

}  // namespace
}  // namespace detour::relay
