#include "relay/outbox.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "support/frames.h"
#include "support/relay_fakes.h"

namespace detour::relay {
namespace {

using derp::PeerGoneReason;
using metrics::PacketKind;
using test::Bytes;
using test::numbered_key;
using test::plain_packet;
using test::recv_packet_frame;

class OutboxTest : public testing::Test {
 protected:
  OutboxTest() {
    test::set_up(alice_, 1, numbered_key(1));
    test::set_up(bob_, 2, numbered_key(2));
  }

  void add(Client& destination, std::span<const std::uint8_t> packet,
           const crypto::NodePublic& source = numbered_key(9)) {
    outbox_.add_packet(destination, source, packet,
                       derp::is_disco(packet) ? PacketKind::kDisco : PacketKind::kOther);
  }

  BufferPool pool_;
  test::RecordedDelivery delivery_{pool_};
  Outbox outbox_{pool_, delivery_};
  Client alice_;
  Client bob_;
};

TEST_F(OutboxTest, EncodesEachFrameAsItGoesOnTheWire) {
  const derp::PingData data{1, 2, 3, 4, 5, 6, 7, 8};
  const Bytes packet = plain_packet(33);
  add(alice_, packet, numbered_key(7));
  outbox_.add_pong(alice_, data);
  outbox_.add_peer_gone(alice_, numbered_key(8), PeerGoneReason::kDisconnected);
  outbox_.add_peer_gone(alice_, numbered_key(8), PeerGoneReason::kNotHere);
  outbox_.add_keep_alive(alice_);
  outbox_.flush();

  ASSERT_EQ(delivery_.batches.size(), 1U);
  const BatchStats stats = delivery_.batches[0].stats;
  EXPECT_EQ(
      delivery_.take(alice_),
      (std::vector<Bytes>{
          recv_packet_frame(numbered_key(7), packet),
          test::to_bytes(derp::encode_pong(data)),
          test::to_bytes(derp::encode_peer_gone(numbered_key(8), PeerGoneReason::kDisconnected)),
          test::to_bytes(derp::encode_peer_gone(numbered_key(8), PeerGoneReason::kNotHere)),
          test::to_bytes(derp::kKeepAliveFrame),
      }));
  EXPECT_EQ(stats.frames, 5U);
  EXPECT_EQ(stats.pongs, 1U);
  EXPECT_EQ(stats.peer_gone_disconnected, 1U);
  EXPECT_EQ(stats.peer_gone_not_here, 1U);
}

TEST_F(OutboxTest, CountsPacketsAndPayloadBytesByKind) {
  add(alice_, plain_packet(100));
  add(alice_, {});
  add(alice_, test::disco_packet(80));
  add(alice_, plain_packet(7));
  outbox_.flush();
  ASSERT_EQ(delivery_.batches.size(), 1U);
  const BatchStats& stats = delivery_.batches[0].stats;
  EXPECT_EQ(stats.packets[static_cast<std::size_t>(PacketKind::kOther)].packets, 3U);
  EXPECT_EQ(stats.packets[static_cast<std::size_t>(PacketKind::kOther)].bytes, 107U);
  EXPECT_EQ(stats.packets[static_cast<std::size_t>(PacketKind::kDisco)].packets, 1U);
  EXPECT_EQ(stats.packets[static_cast<std::size_t>(PacketKind::kDisco)].bytes, 80U);
  EXPECT_EQ(stats.frames, 4U);
}

TEST_F(OutboxTest, GathersOneBatchPerDestinationInOrder) {
  std::vector<Bytes> for_alice;
  std::vector<Bytes> for_bob;
  for (std::uint8_t i = 0; i < 20; ++i) {
    const Bytes packet = plain_packet(50, i);
    const bool to_alice = i % 3 != 0;
    add(to_alice ? alice_ : bob_, packet);
    (to_alice ? for_alice : for_bob).push_back(recv_packet_frame(numbered_key(9), packet));
  }
  EXPECT_TRUE(delivery_.batches.empty()) << "nothing leaves before the end of the turn";
  outbox_.flush();
  EXPECT_EQ(delivery_.batches.size(), 2U);
  EXPECT_EQ(delivery_.take(alice_), for_alice);
  EXPECT_EQ(delivery_.take(bob_), for_bob);
}

TEST_F(OutboxTest, EachTurnBeginsEmpty) {
  add(alice_, plain_packet(10));
  outbox_.flush();
  static_cast<void>(delivery_.take(alice_));
  outbox_.flush();
  EXPECT_TRUE(delivery_.batches.empty());

  add(bob_, plain_packet(20));
  outbox_.flush();
  EXPECT_TRUE(delivery_.take(alice_).empty());
  EXPECT_EQ(delivery_.take(bob_).size(), 1U);
}

TEST_F(OutboxTest, GrowsFromASmallBlockToALargeOneWithoutTearing) {
  // Packets of 700 bytes fill a small block in the middle of a packet.
  std::vector<Bytes> expected;
  std::size_t size = 0;
  for (std::uint8_t i = 0; size + 737 <= BufferPool::kLargeSize; ++i) {
    const Bytes packet = plain_packet(700, i);
    add(alice_, packet);
    expected.push_back(recv_packet_frame(numbered_key(9), packet));
    size += expected.back().size();
  }
  EXPECT_TRUE(delivery_.batches.empty());
  outbox_.flush();
  EXPECT_EQ(delivery_.batches.size(), 1U);
  EXPECT_EQ(delivery_.take(alice_), expected);
}

TEST_F(OutboxTest, DeliversAFullBatchAtOnceAndGoesOn) {
  std::vector<Bytes> expected;
  std::size_t size = 0;
  while (size < 3 * BufferPool::kLargeSize) {
    const Bytes packet = plain_packet(1400, static_cast<std::uint8_t>(expected.size()));
    add(alice_, packet);
    expected.push_back(recv_packet_frame(numbered_key(9), packet));
    size += expected.back().size();
  }
  EXPECT_EQ(delivery_.batches.size(), 3U);
  add(bob_, plain_packet(5));
  outbox_.flush();
  EXPECT_EQ(delivery_.batches.size(), 5U);
  EXPECT_EQ(delivery_.take(alice_), expected);
  EXPECT_EQ(delivery_.take(bob_).size(), 1U);
}

TEST_F(OutboxTest, TakesPacketsOfEverySizeAroundItsBlockSizes) {
  std::vector<std::size_t> sizes = {0, 1, derp::kPacketSizeMax - 1, derp::kPacketSizeMax};
  for (const std::size_t block :
       {BufferPool::kPacketSize, BufferPool::kSmallSize, BufferPool::kMediumSize}) {
    for (std::size_t size = block - derp::kRecvPacketHeadSize - 1;
         size <= block - derp::kRecvPacketHeadSize + 1; ++size)
      sizes.push_back(size);
  }
  // Behind another one as well, so that the block is not empty.
  for (const std::size_t in_front : {std::size_t{0}, std::size_t{1}, std::size_t{3}}) {
    for (const std::size_t size : sizes) {
      SCOPED_TRACE(size);
      std::vector<Bytes> expected;
      for (std::size_t i = 0; i < in_front; ++i) {
        add(alice_, plain_packet(derp::kPacketSizeMax));
        expected.push_back(recv_packet_frame(numbered_key(9), plain_packet(derp::kPacketSizeMax)));
      }
      add(alice_, plain_packet(size, 5));
      expected.push_back(recv_packet_frame(numbered_key(9), plain_packet(size, 5)));
      outbox_.flush();
      ASSERT_TRUE(delivery_.take(alice_) == expected);
    }
  }
}

TEST_F(OutboxTest, KeepsThousandsOfDestinationsApart) {
  constexpr std::size_t kClients = 5000;
  std::vector<std::unique_ptr<Client>> clients;
  for (std::uint32_t i = 0; i < kClients; ++i) {
    clients.push_back(std::make_unique<Client>());
    test::set_up(*clients.back(), i, numbered_key(i));
  }
  for (int turn = 0; turn < 2; ++turn) {
    for (std::uint8_t round = 0; round < 2; ++round) {
      for (const auto& client : clients) add(*client, plain_packet(3, round), client->key());
    }
    outbox_.flush();
    ASSERT_EQ(delivery_.batches.size(), kClients) << "one batch for each, not one per packet";
    for (std::size_t i = 0; i < kClients; ++i) {
      const auto& batch = delivery_.batches[i];
      ASSERT_EQ(batch.destination, clients[i].get()) << "in the order in which they were met";
      ASSERT_EQ(batch.frames,
                (std::vector<Bytes>{recv_packet_frame(clients[i]->key(), plain_packet(3, 0)),
                                    recv_packet_frame(clients[i]->key(), plain_packet(3, 1))}));
    }
    delivery_.batches.clear();
  }
}

}  // namespace
}  // namespace detour::relay
