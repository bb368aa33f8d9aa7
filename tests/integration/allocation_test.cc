// The data path does not allocate: once warm, a worker relays without asking the heap for anything.
// A program of its own, because it replaces malloc().

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "net/tls_memory.h"
#include "relay/router.h"
#include "relay/send_queues.h"
#include "support/allocations.h"
#include "support/frames.h"
#include "support/relay_fakes.h"
#include "support/test_relay.h"

namespace detour {
namespace {

using client::Client;
using test::AllocationCount;
using test::Bytes;
using test::ExemptThread;
using test::kPatience;
using test::plain_packet;
using test::TestRelay;

TEST(AllocationCount, SeesWhatIsAllocated) {
  AllocationCount count;
  auto made = std::make_unique<std::vector<int>>(1000);
  made.reset();
  EXPECT_EQ(count.stop(), 2U);
  EXPECT_NE(count.places(), "");

  AllocationCount other;
  {
    const ExemptThread exempt;
    made = std::make_unique<std::vector<int>>(1000);
  }
  EXPECT_EQ(other.stop(), 0U);
}

// --- The parts, without threads

class DiscardedDelivery final : public relay::Delivery {
 public:
  explicit DiscardedDelivery(BufferPool& pool) : pool_(pool) {}
  void deliver(relay::Client& /*destination*/, relay::FrameBatch batch) override {
    pool_.put(std::move(batch.block));
  }

 private:
  BufferPool& pool_;
};

TEST(AllocationFreeRouter, RelaysToManyDestinationsOnceWarm) {
  constexpr std::uint32_t kClients = 60;  // A turn's worth of large batches: what the pool keeps.
  Quiescence quiescence(1);
  relay::Directory directory(quiescence);
  BlockDepot depot;
  BufferPool pool(&depot);
  DiscardedDelivery delivery(pool);
  relay::Outbox outbox(pool, delivery);
  metrics::WorkerCounters counters;
  test::RecordedMeshRequests mesh;
  relay::Router router(directory, outbox, mesh, counters);
  std::vector<std::unique_ptr<relay::Client>> clients;
  Bytes stream;
  for (std::uint32_t i = 0; i < kClients; ++i) {
    clients.push_back(std::make_unique<relay::Client>());
    test::set_up(*clients.back(), i, test::numbered_key(i));
    static_cast<void>(router.add(*clients.back()));
  }
  for (std::uint32_t i = 0; i < 3 * kClients; ++i) {
    const Bytes frame = test::send_packet_frame(
        test::numbered_key(i * 7 % kClients),
        i % 5 == 0 ? test::disco_packet() : plain_packet(100 + i * 13 % 30'000));
    stream.insert(stream.end(), frame.begin(), frame.end());
    const Bytes ping = test::frame(derp::FrameType::kPing, plain_packet(8));
    stream.insert(stream.end(), ping.begin(), ping.end());
    const Bytes lost = test::send_packet_frame(test::numbered_key(1'000'000), plain_packet(50));
    stream.insert(stream.end(), lost.begin(), lost.end());
  }
  relay::FrameSplitter splitter(false);
  const auto turn = [&] {
    std::span<const std::uint8_t> input(stream);
    const bool handled = router.handle_input(*clients[0], splitter, input, TimePoint{}).has_value();
    outbox.flush();
    return handled && input.empty();
  };
  ASSERT_TRUE(turn());
  AllocationCount count;
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(turn());
  EXPECT_EQ(count.stop(), 0U) << count.places();
}

TEST(AllocationFreeRouter, ForwardsToAndFromMeshPeersOnceWarm) {
  constexpr std::uint32_t kClients = 20;
  Quiescence quiescence(1);
  relay::Directory directory(quiescence);
  BlockDepot depot;
  BufferPool pool(&depot);
  DiscardedDelivery delivery(pool);
  relay::Outbox outbox(pool, delivery);
  metrics::WorkerCounters counters;
  test::RecordedMeshRequests mesh;
  relay::Router router(directory, outbox, mesh, counters);
  relay::Client link;
  relay::Client::Identity identity;
  identity.is_mesh_link = true;
  link.set_identity(identity);
  std::vector<std::unique_ptr<relay::Client>> clients;
  Bytes stream;
  for (std::uint32_t i = 0; i < kClients; ++i) {
    clients.push_back(std::make_unique<relay::Client>());
    test::set_up(*clients.back(), i, test::numbered_key(i));
    static_cast<void>(router.add(*clients.back()));
    directory.add_mesh_key(link, test::numbered_key(1000 + i));
  }
  for (std::uint32_t i = 0; i < 3 * kClients; ++i) {
    const Bytes packet = i % 5 == 0 ? test::disco_packet() : plain_packet(100 + i * 13 % 30'000);
    const Bytes there =
        test::send_packet_frame(test::numbered_key(1000 + i * 7 % kClients), packet);
    const Bytes back = test::frame(
        derp::FrameType::kForwardPacket,
        test::concat({test::to_bytes(test::numbered_key(1000 + i % kClients).bytes()),
                      test::to_bytes(test::numbered_key(i * 7 % kClients).bytes()), packet}));
    stream.insert(stream.end(), there.begin(), there.end());
    stream.insert(stream.end(), back.begin(), back.end());
  }
  relay::FrameSplitter splitter(/*is_mesh_peer=*/true);
  const auto turn = [&] {
    std::span<const std::uint8_t> input(stream);
    const bool handled = router.handle_input(*clients[0], splitter, input, TimePoint{}).has_value();
    outbox.flush();
    return handled && input.empty();
  };
  ASSERT_TRUE(turn());
  AllocationCount count;
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(turn());
  EXPECT_EQ(count.stop(), 0U) << count.places();
  EXPECT_EQ(counters.packets_forwarded_out.get(), 11U * 3 * kClients);
  EXPECT_EQ(counters.packets_forwarded_in.get(), 11U * 3 * kClients);
  static_cast<void>(directory.remove_mesh_link(link));
}

TEST(AllocationFreeQueues, ReplaceTheOldestOnceFull) {
  BufferPool pool;
  metrics::WorkerCounters counters;
  relay::SendQueues queues(relay::QueueLimits{});
  const Bytes data = test::recv_packet_frame(test::numbered_key(1), plain_packet(1400));
  const Bytes disco = test::recv_packet_frame(test::numbered_key(1), test::disco_packet());
  const auto push = [&](const Bytes& frame) {
    relay::FrameBatch batch;
    batch.block = pool.get(frame.size());
    std::copy(frame.begin(), frame.end(), batch.block.data());
    batch.size = frame.size();
    queues.push(batch, TimePoint{}, pool, counters);
    pool.put(std::move(batch.block));
  };
  for (int i = 0; i < 40; ++i) {
    push(data);
    push(disco);
  }
  AllocationCount count;
  for (int i = 0; i < 1000; ++i) {
    push(data);
    push(disco);
  }
  EXPECT_EQ(count.stop(), 0U) << count.places();
}

// --- The whole relay

/// Runs `work` until it gets by without a single allocation. The first rounds still make things
/// that are kept from then on (a pool's block, a vector's memory); what is allocated per packet
/// never goes away.
template <typename Work>
testing::AssertionResult stops_allocating(Work work) {
  // On a machine that is busy with other work a batch may wait long enough to need one block more.
  constexpr int kRounds = 60;
  std::string places;
  std::uint64_t last = 0;
  for (int round = 0; round < kRounds; ++round) {
    AllocationCount count;
    work();
    last = count.stop();
    if (last == 0) return testing::AssertionSuccess();
    places = count.places();
  }
  return testing::AssertionFailure() << last << " allocations in the last round:\n" << places;
}

struct Setting {
  std::string_view name;
  std::uint32_t workers;
  bool tls;
  std::uint32_t packets_per_write;  ///< More than one: many frames in a record, as bulk senders do.
};

class AllocationFreeRelayTest : public testing::TestWithParam<Setting> {};

INSTANTIATE_TEST_SUITE_P(
    Settings, AllocationFreeRelayTest,
    testing::Values(Setting{"OneWorker", 1, true, 1}, Setting{"OneWorkerBulk", 1, true, 10},
                    Setting{"TwoWorkers", 2, true, 1}, Setting{"TwoWorkersBulk", 2, true, 10},
                    Setting{"FourWorkers", 4, true, 1}, Setting{"TwoWorkersPlainHttp", 2, false, 1},
                    Setting{"TwoWorkersPlainHttpBulk", 2, false, 10}),
    [](const auto& setting) { return std::string(setting.param.name); });

void PrintTo(const Setting& setting, std::ostream* out) {
  *out << setting.name;
}

/// Sends `packets` with at most `in_flight` on their way, and takes them at the other end.
void exchange(Client& sender, Client& receiver, std::uint32_t packets, std::uint32_t in_flight,
              std::uint32_t packets_per_write) {
  const Bytes frame = test::send_packet_frame(receiver.public_key(), plain_packet(1400));
  Bytes write;
  for (std::uint32_t i = 0; i < packets_per_write; ++i)
    write.insert(write.end(), frame.begin(), frame.end());
  for (std::uint32_t sent = 0; sent < packets; sent += in_flight) {
    for (std::uint32_t i = 0; i < in_flight; i += packets_per_write)
      ASSERT_TRUE(sender.send_raw(write).has_value());
    for (std::uint32_t i = 0; i < in_flight; ++i) {
      const auto packet = receiver.receive_packet(kPatience);
      ASSERT_TRUE(packet.has_value() && packet->has_value());
    }
  }
}

TEST_P(AllocationFreeRelayTest, RelaysWithoutAllocatingOnceWarm) {
  constexpr std::size_t kPairs = 4;
  constexpr std::uint32_t kPackets = 3000;
  const ExemptThread exempt;
  const TestRelay relay({.workers = GetParam().workers, .tls = GetParam().tls});
  std::vector<std::unique_ptr<Client>> clients;
  for (std::size_t i = 0; i < 2 * kPairs; ++i) {
    clients.push_back(relay.dial());
    ASSERT_TRUE(clients.back());
  }
  EXPECT_TRUE(stops_allocating([&] {
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < kPairs; ++i) {
      threads.emplace_back([&, i] {
        const ExemptThread exempt_too;
        exchange(*clients[2 * i], *clients[2 * i + 1], kPackets, 20, GetParam().packets_per_write);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }));
  EXPECT_EQ(relay.dropped(), 0U);
}

TEST(AllocationFreeMeshTest, ForwardsWithoutAllocatingOnceWarm) {
  constexpr std::size_t kPairs = 3;
  constexpr std::uint32_t kPackets = 2000;
  const ExemptThread exempt;
  const TestRelay far({.workers = 2, .mesh_key = std::string(64, 'a')});
  const TestRelay near(
      {.workers = 2, .mesh_key = std::string(64, 'a'), .configure = [&](config::Config& config) {
         config.mesh_with = {far.as_mesh_peer()};
       }});
  std::vector<std::unique_ptr<Client>> clients;
  for (std::size_t i = 0; i < kPairs; ++i) {
    clients.push_back(near.dial());
    clients.push_back(far.dial());
    ASSERT_TRUE(clients[2 * i] && clients[2 * i + 1]);
  }
  ASSERT_TRUE(test::wait_until([&] { return near.metric("derp_clients_remote") == kPairs + 1; }));
  EXPECT_TRUE(stops_allocating([&] {
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < kPairs; ++i) {
      threads.emplace_back([&, i] {
        const ExemptThread exempt_too;
        exchange(*clients[2 * i], *clients[2 * i + 1], kPackets, 20, 1);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }));
  EXPECT_EQ(near.dropped() + far.dropped(), 0U);
}

TEST_P(AllocationFreeRelayTest, AFrozenReceiverCostsNoAllocation) {
  const ExemptThread exempt;
  const TestRelay relay(
      {.workers = GetParam().workers, .tls = GetParam().tls, .write_timeout = Duration::zero()});
  const auto frozen = relay.dial();
  const auto sender = relay.dial();
  ASSERT_TRUE(frozen && sender);
  Bytes write;
  for (std::uint32_t i = 0; i < GetParam().packets_per_write; ++i) {
    const Bytes frame = test::send_packet_frame(frozen->public_key(), plain_packet(1400));
    write.insert(write.end(), frame.begin(), frame.end());
  }
  EXPECT_TRUE(stops_allocating([&] {
    const std::uint64_t until = relay.dropped() + 2000;
    while (relay.dropped() < until) {
      for (int i = 0; i < 100; ++i) ASSERT_TRUE(sender->send_raw(write).has_value());
      ASSERT_TRUE(sender->ping(kPatience).has_value());
    }
  }));
}

// A batch that meets another worker at the receiver's lock travels to that worker, and its block
// ends in that worker's pool. The blocks come back by the depot, once there are enough of them.
TEST(AllocationFewRelayTest, ManyWorkersToOneReceiver) {
  constexpr std::size_t kSenders = 6;
  constexpr std::uint32_t kBurst = 4;
  constexpr std::uint32_t kRounds = 300;
  const ExemptThread exempt;
  const TestRelay relay({.workers = 4});
  const auto receiver = relay.dial();
  ASSERT_TRUE(receiver);
  std::vector<std::unique_ptr<Client>> senders;
  for (std::size_t i = 0; i < kSenders; ++i) {
    senders.push_back(relay.dial());
    ASSERT_TRUE(senders.back());
  }
  const Bytes frame = test::send_packet_frame(receiver->public_key(), plain_packet(1400));
  std::uint64_t expected = 0;
  std::uint64_t arrived = 0;
  const auto send_all = [&] {
    // All send a few at once and wait for the others: 24 are on their way at most.
    std::atomic<std::uint32_t> round{0};
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < kSenders; ++i) {
      threads.emplace_back([&, i] {
        const ExemptThread exempt_too;
        for (std::uint32_t mine = 0; mine < kRounds; ++mine) {
          for (std::uint32_t n = 0; n < kBurst; ++n)
            ASSERT_TRUE(senders[i]->send_raw(frame).has_value());
          round.wait(mine);
        }
      });
    }
    for (std::uint32_t current = 1; current <= kRounds; ++current) {
      expected += kBurst * kSenders;
      while (arrived < expected) {
        const auto packet = receiver->receive_packet(std::chrono::milliseconds(50));
        ASSERT_TRUE(packet.has_value());
        if (*packet) ++arrived;
        if (!*packet && arrived + relay.dropped() >= expected) break;
      }
      round.store(current);
      round.notify_all();
    }
    for (std::thread& thread : threads) thread.join();
  };
  // Which workers meet is chance, so that now and then one still gets its first blocks of a size.
  for (int warm_up = 0; warm_up < 5; ++warm_up) send_all();
  AllocationCount count;
  send_all();
  constexpr std::uint64_t kPackets = kRounds * kBurst * kSenders;
  EXPECT_LE(count.stop(), kPackets / 50) << "for " << kPackets << " packets:\n" << count.places();
}

// What waits for a slow receiver takes blocks of the sender's worker and leaves them to the
// receiver's. Only the queues' own memory, which they give back when empty, is made anew.
TEST(AllocationFewRelayTest, AReceiverOfAnotherWorkerThatIsSlowAgainAndAgain) {
  constexpr int kRounds = 15;
  const ExemptThread exempt;
  const TestRelay relay({.workers = 2, .write_timeout = Duration::zero()});
  auto options = relay.dial_options(crypto::NodePrivate::generate());
  options.receive_buffer = 16 * 1024;
  const auto slow = Client::dial(options);
  const auto sender = relay.dial();
  ASSERT_TRUE(slow.has_value() && sender);
  const Bytes frame = test::send_packet_frame((*slow)->public_key(), plain_packet(1400));
  std::uint64_t sent = 0;
  std::uint64_t arrived = 0;
  const auto rounds = [&] {
    for (int round = 0; round < kRounds; ++round) {
      const std::uint64_t dropped = relay.dropped();
      while (relay.dropped() == dropped) {
        for (int i = 0; i < 60; ++i) ASSERT_TRUE(sender->send_raw(frame).has_value());
        sent += 60;
        ASSERT_TRUE(sender->ping(kPatience).has_value());
      }
      while (arrived + relay.dropped() < sent) {
        const auto packet = (*slow)->receive_packet(kPatience);
        ASSERT_TRUE(packet.has_value() && packet->has_value());
        ++arrived;
      }
    }
  };
  rounds();
  AllocationCount count;
  rounds();
  // Each round queues 32 packets, and twice the queue's own memory.
  EXPECT_LE(count.stop(), 4U * kRounds) << count.places();
}

}  // namespace
}  // namespace detour

int main(int argc, char** argv) {
  // As the program does, before OpenSSL allocates anything.
  if (!detour::net::install_tls_memory()) return 1;
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
