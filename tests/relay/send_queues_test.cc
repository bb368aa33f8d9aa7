#include "relay/send_queues.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "support/frames.h"
#include "support/relay_fakes.h"

namespace detour::relay {
namespace {

using derp::PeerGoneReason;
using metrics::DropReason;
using metrics::PacketKind;
using std::chrono::milliseconds;
using test::Bytes;
using test::CounterValues;
using test::numbered_key;
using test::plain_packet;
using test::recv_packet_frame;

constexpr std::size_t kNoLimit = std::size_t{1} << 30;

/// A packet whose size tells which one it is.
Bytes data_frame(std::size_t number) {
  return recv_packet_frame(numbered_key(9), plain_packet(100 + number));
}
Bytes disco_frame(std::size_t number) {
  return recv_packet_frame(numbered_key(9), test::disco_packet(100 + number));
}
Bytes pong_frame(std::uint8_t number) {
  return test::to_bytes(derp::encode_pong({number}));
}
Bytes gone_frame(std::uint32_t number, PeerGoneReason reason = PeerGoneReason::kDisconnected) {
  return test::to_bytes(derp::encode_peer_gone(numbered_key(number), reason));
}

class SendQueuesTest : public testing::Test {
 protected:
  /// Pushes frames as one batch, as they would come from an outbox.
  void push(const std::vector<Bytes>& frames) {
    FrameBatch batch;
    std::size_t size = 0;
    for (const Bytes& frame : frames) size += frame.size();
    batch.block = pool_.get(size);
    for (const Bytes& frame : frames) {
      std::copy(frame.begin(), frame.end(), batch.block.data() + batch.size);
      batch.size += frame.size();
    }
    queues_.push(batch, now_, pool_, counters_);
    pool_.put(std::move(batch.block));
  }

  std::vector<Bytes> pop(std::size_t bytes_max = kNoLimit) {
    ByteBuffer out;
    last_stats_ = queues_.pop(out, bytes_max, now_, pool_, counters_);
    return test::split_frames(out.bytes());
  }

  BufferPool pool_;
  metrics::WorkerCounters counters_;
  SendQueues queues_{QueueLimits{}};
  TimePoint now_ = TimePoint{} + std::chrono::hours(1);
  BatchStats last_stats_;
};

TEST_F(SendQueuesTest, HoldsNothingWhenNothingWaits) {
  EXPECT_TRUE(queues_.empty());
  EXPECT_EQ(queues_.bytes(), 0U);
  EXPECT_TRUE(pop().empty());
  queues_.clear(DropReason::kGoneDisconnected, pool_, counters_);
  EXPECT_TRUE(queues_.empty());
  EXPECT_EQ(test::nonzero(counters_), CounterValues{});
}

TEST_F(SendQueuesTest, TheFreshestOfEachKindStay) {
  struct Case {
    std::string_view name;
    std::uint32_t packets_max;
    std::size_t data;
    std::size_t disco;
  };
  constexpr Case kCases[] = {
      {"nearly full", 32, 31, 0},
      {"exactly full", 32, 32, 32},
      {"one data packet too many", 32, 33, 32},
      {"one disco packet too many", 32, 32, 33},
      {"data many times over, disco not full", 32, 1000, 5},
      {"disco many times over, data not full", 32, 5, 1000},
      {"both many times over", 32, 500, 300},
      {"a queue of one", 1, 3, 2},
      {"a large queue", 4096, 5000, 4096},
  };
  for (const auto& [name, packets_max, data, disco] : kCases) {
    SCOPED_TRACE(name);
    metrics::WorkerCounters counters;
    SendQueues queues(QueueLimits{.packets_max = packets_max});
    const auto push_one = [&](const Bytes& frame) {
      FrameBatch batch;
      batch.block = pool_.get(frame.size());
      std::copy(frame.begin(), frame.end(), batch.block.data());
      batch.size = frame.size();
      queues.push(batch, now_, pool_, counters);
      pool_.put(std::move(batch.block));
    };
    for (std::size_t i = 0; i < std::max(data, disco); ++i) {
      if (i < data) push_one(data_frame(i));
      if (i < disco) push_one(disco_frame(i));
    }

    std::vector<Bytes> expected;
    CounterValues drops;
    std::size_t bytes = 0;
    const auto expect = [&](std::size_t count, auto make_frame, const std::string& kind) {
      const std::size_t dropped = count > packets_max ? count - packets_max : 0;
      for (std::size_t i = 0; i < dropped; ++i) {
        ++drops["queue_head " + kind + " packets"];
        drops["queue_head " + kind + " bytes"] += 100 + i;
      }
      for (std::size_t i = dropped; i < count; ++i) {
        expected.push_back(make_frame(i));
        bytes += expected.back().size();
      }
    };
    expect(disco, disco_frame, "disco");
    expect(data, data_frame, "other");
    EXPECT_EQ(queues.bytes(), bytes);
    EXPECT_EQ(test::nonzero(counters), drops);

    ByteBuffer out;
    const BatchStats stats = queues.pop(out, kNoLimit, now_, pool_, counters);
    EXPECT_EQ(test::split_frames(out.bytes()), expected);
    EXPECT_EQ(stats.frames, expected.size());
    EXPECT_TRUE(queues.empty());
    EXPECT_EQ(test::nonzero(counters), drops) << "taking out drops nothing";
  }
}

TEST_F(SendQueuesTest, ControlGoesFirstThenDiscoThenDataEachInOrder) {
  push({data_frame(0), disco_frame(0), gone_frame(1)});
  push({data_frame(1)});
  push({test::to_bytes(derp::kKeepAliveFrame), disco_frame(1), data_frame(2)});
  EXPECT_EQ(pop(), (std::vector<Bytes>{gone_frame(1), test::to_bytes(derp::kKeepAliveFrame),
                                       disco_frame(0), disco_frame(1), data_frame(0), data_frame(1),
                                       data_frame(2)}));
}

TEST_F(SendQueuesTest, OnePongStandsForAllThatWait) {
  push({pong_frame(1), pong_frame(2)});
  push({pong_frame(3)});
  EXPECT_EQ(pop(), std::vector<Bytes>{pong_frame(1)});
  EXPECT_EQ(last_stats_.pongs, 1U);
  EXPECT_EQ(last_stats_.frames, 1U);

  push({pong_frame(4)});
  EXPECT_EQ(pop(), std::vector<Bytes>{pong_frame(4)}) << "the one before was sent";
  EXPECT_EQ(test::nonzero(counters_), CounterValues{});
}

TEST_F(SendQueuesTest, ControlFramesHaveABoundAndTheOldestStay) {
  const std::size_t bound = QueueLimits{}.control_frames_max;
  std::vector<Bytes> expected;
  for (std::uint32_t i = 0; i < bound; ++i) {
    expected.push_back(gone_frame(i));
    push({expected.back()});
  }
  EXPECT_EQ(test::nonzero(counters_), CounterValues{});
  push({gone_frame(1'000'000), test::to_bytes(derp::kKeepAliveFrame), data_frame(0)});
  EXPECT_EQ(test::nonzero(counters_), (CounterValues{{"control_frames_dropped", 2}}));

  expected.push_back(data_frame(0));
  EXPECT_EQ(pop(), expected);
  EXPECT_EQ(last_stats_.peer_gone_disconnected, bound);
}

TEST_F(SendQueuesTest, TellsWhatWasTakenOut) {
  push({disco_frame(0), gone_frame(1), data_frame(0), data_frame(1), pong_frame(1),
        gone_frame(2, PeerGoneReason::kNotHere)});
  static_cast<void>(pop());
  EXPECT_EQ(last_stats_.frames, 6U);
  EXPECT_EQ(last_stats_.pongs, 1U);
  EXPECT_EQ(last_stats_.peer_gone_disconnected, 1U);
  EXPECT_EQ(last_stats_.peer_gone_not_here, 1U);
  EXPECT_EQ(last_stats_.packets[static_cast<std::size_t>(PacketKind::kDisco)].packets, 1U);
  EXPECT_EQ(last_stats_.packets[static_cast<std::size_t>(PacketKind::kDisco)].bytes, 100U);
  EXPECT_EQ(last_stats_.packets[static_cast<std::size_t>(PacketKind::kOther)].packets, 2U);
  EXPECT_EQ(last_stats_.packets[static_cast<std::size_t>(PacketKind::kOther)].bytes, 201U);
}

TEST_F(SendQueuesTest, TakesOutUntilTheLimitIsReached) {
  const std::size_t frame_size = data_frame(0).size();
  struct Case {
    std::string_view name;
    std::size_t bytes_max;
    std::size_t frames;
  };
  const Case kCases[] = {
      {"nothing", 0, 0},
      {"one byte takes one frame", 1, 1},
      {"exactly one", frame_size, 1},
      {"one byte beyond takes the next", frame_size + 1, 2},
      {"exactly three", 3 * frame_size, 3},
      {"more than there is", 100 * frame_size, 5},
  };
  for (const auto& [name, bytes_max, frames] : kCases) {
    SCOPED_TRACE(name);
    for (int i = 0; i < 5; ++i) push({data_frame(0)});
    EXPECT_EQ(pop(bytes_max).size(), frames);
    EXPECT_EQ(last_stats_.frames, frames);
    EXPECT_EQ(queues_.bytes(), (5 - frames) * frame_size);
    EXPECT_EQ(pop().size(), 5 - frames);
    EXPECT_TRUE(queues_.empty());
  }
}

TEST_F(SendQueuesTest, StaysInOrderWhenPushesAndPopsAlternate) {
  std::size_t pushed = 0;
  std::size_t popped = 0;
  for (int round = 0; round < 200; ++round) {
    for (int i = 0; i < 1 + round % 7; ++i) push({data_frame(pushed++)});
    const std::size_t in_front = pushed - popped > 32 ? pushed - popped - 32 : 0;
    popped += in_front;  // Those made way.
    for (const Bytes& frame : pop(static_cast<std::size_t>(round % 5) * 150)) {
      ASSERT_EQ(frame, data_frame(popped)) << "round " << round;
      ++popped;
    }
  }
  for (const Bytes& frame : pop()) ASSERT_EQ(frame, data_frame(popped++));
  EXPECT_EQ(popped, pushed);
}

TEST_F(SendQueuesTest, TakesTheLargestPackets) {
  const Bytes largest = recv_packet_frame(numbered_key(9), plain_packet(derp::kPacketSizeMax));
  for (int i = 0; i < 40; ++i) push({largest});
  EXPECT_EQ(queues_.bytes(), 32 * largest.size());
  const auto frames = pop();
  ASSERT_EQ(frames.size(), 32U);
  for (const Bytes& frame : frames) ASSERT_TRUE(frame == largest);
}

TEST_F(SendQueuesTest, ThrowingAwayCountsPacketsUnderTheReasonAndNothingElse) {
  push({data_frame(0), data_frame(1), disco_frame(5), gone_frame(1), pong_frame(1)});
  queues_.clear(DropReason::kGoneDisconnected, pool_, counters_);
  EXPECT_EQ(test::nonzero(counters_), (CounterValues{
                                          {"gone_disconnected other packets", 2},
                                          {"gone_disconnected other bytes", 201},
                                          {"gone_disconnected disco packets", 1},
                                          {"gone_disconnected disco bytes", 105},
                                      }));
  EXPECT_TRUE(queues_.empty());
  EXPECT_EQ(queues_.bytes(), 0U);
  EXPECT_TRUE(pop().empty());
}

TEST_F(SendQueuesTest, AveragesTheTimeInQueueInWholeMilliseconds) {
  push({data_frame(0)});
  now_ += std::chrono::microseconds(100'900);
  static_cast<void>(pop());
  EXPECT_DOUBLE_EQ(counters_.average_queue_duration_ms.load(), 10.0);  // 0.1 * 100

  push({disco_frame(0)});
  static_cast<void>(pop());
  EXPECT_DOUBLE_EQ(counters_.average_queue_duration_ms.load(), 9.0);  // 0.9 * 10 + 0.1 * 0
}

TEST_F(SendQueuesTest, WhatMakesWayCountsWithItsTimeToo) {
  SendQueues queues(QueueLimits{.packets_max = 1});
  for (int i = 0; i < 2; ++i) {
    const Bytes frame = data_frame(0);
    FrameBatch batch;
    batch.block = pool_.get(frame.size());
    std::copy(frame.begin(), frame.end(), batch.block.data());
    batch.size = frame.size();
    queues.push(batch, now_, pool_, counters_);
    now_ += milliseconds(200);
  }
  EXPECT_DOUBLE_EQ(counters_.average_queue_duration_ms.load(), 20.0);
}

TEST_F(SendQueuesTest, ForwardsToAMeshPeerQueueLikePackets) {
  const auto forward = [](std::size_t size, bool disco) {
    Bytes payload = test::to_bytes(numbered_key(1).bytes());
    const Bytes destination = test::to_bytes(numbered_key(2).bytes());
    payload.insert(payload.end(), destination.begin(), destination.end());
    const Bytes packet = disco ? test::disco_packet(size) : plain_packet(size);
    payload.insert(payload.end(), packet.begin(), packet.end());
    return test::frame(derp::FrameType::kForwardPacket, payload);
  };
  for (std::size_t i = 0; i < 33; ++i) push({forward(100 + i, false)});
  push({forward(62, true), forward(derp::kPacketSizeMax, false)});
  EXPECT_EQ(test::nonzero(counters_),
            (CounterValues{{"queue_head other packets", 2}, {"queue_head other bytes", 201}}));
  const auto frames = pop();
  ASSERT_EQ(frames.size(), 33U);
  EXPECT_EQ(frames[0], forward(62, true)) << "disco first";
  EXPECT_EQ(frames[1], forward(102, false));
  EXPECT_EQ(frames[32], forward(derp::kPacketSizeMax, false));
  EXPECT_EQ(last_stats_.frames, 0U);
  EXPECT_EQ(last_stats_.packets[1].packets, 0U) << "not sent to a client";
  EXPECT_EQ(last_stats_.forwarded[0].packets, 1U);
  EXPECT_EQ(last_stats_.forwarded[0].bytes, 62U);
  EXPECT_EQ(last_stats_.forwarded[1].packets, 32U);
}

}  // namespace
}  // namespace detour::relay
