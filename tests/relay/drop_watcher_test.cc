#include "relay/drop_watcher.h"

#include <gtest/gtest.h>

#include <vector>

#include "relay/send_queues.h"
#include "support/frames.h"
#include "support/relay_fakes.h"

namespace detour::relay {
namespace {

using metrics::DropReason;
using metrics::PacketKind;
using test::Bytes;
using test::numbered_key;
using test::plain_packet;
using test::recv_packet_frame;

class Recorder final : public DropWatcher {
 public:
  [[nodiscard]] bool wants_drops() const override { return true; }
  void on_drop(const Drop& drop) override { drops.push_back(drop); }
  std::vector<Drop> drops;
};

class DropWatcherTest : public testing::Test {
 protected:
  void expect(std::size_t index, DropReason reason, PacketKind kind, std::uint32_t source,
              std::uint32_t destination, std::size_t size) {
    ASSERT_LT(index, recorder_.drops.size());
    const Drop& drop = recorder_.drops[index];
    EXPECT_EQ(drop.reason, reason);
    EXPECT_EQ(drop.kind, kind);
    EXPECT_EQ(drop.source, numbered_key(source));
    EXPECT_EQ(drop.destination, numbered_key(destination));
    EXPECT_EQ(drop.packet_size, size);
  }

  Recorder recorder_;
  const crypto::NodePublic here_ = numbered_key(7);
  const DropSite site_{.watcher = recorder_, .destination = here_};
};

Bytes forward_frame(std::uint32_t source, std::uint32_t destination, const Bytes& packet) {
  Bytes out(derp::kForwardPacketHeadSize);
  derp::write_forward_packet_head(std::span(out).first<derp::kForwardPacketHeadSize>(),
                                  numbered_key(source), numbered_key(destination), packet.size());
  out.insert(out.end(), packet.begin(), packet.end());
  return out;
}

TEST_F(DropWatcherTest, PacketsAreFoundAmongOtherFrames) {
  Bytes frames;
  const auto add = [&](const Bytes& frame) {
    frames.insert(frames.end(), frame.begin(), frame.end());
  };
  add(test::to_bytes(derp::kKeepAliveFrame));
  add(recv_packet_frame(numbered_key(1), plain_packet(100)));
  add(test::to_bytes(derp::encode_peer_gone(numbered_key(2), derp::PeerGoneReason::kDisconnected)));
  add(forward_frame(3, 4, test::disco_packet(80)));
  add(recv_packet_frame(numbered_key(5), {}));
  report_drops(site_, DropReason::kGoneDisconnected, frames);
  ASSERT_EQ(recorder_.drops.size(), 3U);
  expect(0, DropReason::kGoneDisconnected, PacketKind::kOther, 1, 7, 100);
  expect(1, DropReason::kGoneDisconnected, PacketKind::kDisco, 3, 4, 80);
  expect(2, DropReason::kGoneDisconnected, PacketKind::kOther, 5, 7, 0);
}

TEST_F(DropWatcherTest, AQueueTellsWhomItEvictsAndWhatItThrowsAway) {
  BufferPool pool;
  metrics::WorkerCounters counters;
  SendQueues queues(QueueLimits{.packets_max = 2});
  for (std::uint32_t number = 1; number <= 3; ++number) {
    const Bytes frame = recv_packet_frame(numbered_key(number), plain_packet(number));
    FrameBatch batch;
    batch.block = pool.get(frame.size());
    std::copy(frame.begin(), frame.end(), batch.block.data());
    batch.size = frame.size();
    queues.push(batch, TimePoint{}, pool, counters, &site_);
    pool.put(std::move(batch.block));
  }
  ASSERT_EQ(recorder_.drops.size(), 1U);
  expect(0, DropReason::kQueueHead, PacketKind::kOther, 1, 7, 1);
  queues.clear(DropReason::kGoneDisconnected, pool, counters, &site_);
  ASSERT_EQ(recorder_.drops.size(), 3U);
  expect(1, DropReason::kGoneDisconnected, PacketKind::kOther, 2, 7, 2);
  expect(2, DropReason::kGoneDisconnected, PacketKind::kOther, 3, 7, 3);
}

}  // namespace
}  // namespace detour::relay
