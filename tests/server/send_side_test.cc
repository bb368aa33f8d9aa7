#include "server/send_side.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <map>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "net/plain_transport.h"
#include "support/frames.h"
#include "support/relay_fakes.h"

namespace detour::server {
namespace {

using metrics::DropReason;
using metrics::PacketKind;
using test::Bytes;
using test::CounterValues;
using test::numbered_key;
using test::plain_packet;
using test::recv_packet_frame;

class Watcher final : public StallWatcher {
 public:
  void wait_until_writable(int fd) override {
    EXPECT_GE(fd, 0);
    ++waits;
  }
  void on_blocked(WorkerScratch& /*scratch*/) override { ++told; }
  std::atomic<int> waits{0};
  std::atomic<int> told{0};
};

/// A send side over one end of a socket pair; the test holds the other end.
class SendSideTest : public testing::Test {
 protected:
  SendSideTest() {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    // Small, so that little data fills it.
    const int size = 16 * 1024;
    EXPECT_EQ(::setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
    peer_ = net::UniqueFd(ends[1]);
    side_ = std::make_unique<SendSide>(net::UniqueFd(ends[0]), relay::QueueLimits{}, watcher_);
    side_->set_transport(std::make_unique<net::PlainTransport>());
    scratch_.now = TimePoint{} + std::chrono::hours(1);
  }

  static relay::FrameBatch batch_of(const std::vector<Bytes>& frames, BufferPool& pool) {
    relay::FrameBatch batch;
    std::size_t size = 0;
    for (const Bytes& frame : frames) size += frame.size();
    batch.block = pool.get(size);
    for (const Bytes& frame : frames) {
      std::copy(frame.begin(), frame.end(), batch.block.data() + batch.size);
      batch.size += frame.size();
      ++batch.stats.frames;
      if (frame[0] != static_cast<std::uint8_t>(derp::FrameType::kRecvPacket)) continue;
      const auto packet = std::span(frame).subspan(derp::kRecvPacketHeadSize);
      auto& kind = batch.stats.packets[static_cast<std::size_t>(
          derp::is_disco(packet) ? PacketKind::kDisco : PacketKind::kOther)];
      ++kind.packets;
      kind.bytes += packet.size();
    }
    return batch;
  }
  void deliver(const std::vector<Bytes>& frames) {
    side_->deliver(batch_of(frames, scratch_.pool), scratch_);
  }
  /// A packet of 1000 bytes that carries a number.
  static Bytes numbered_frame(std::uint32_t number, std::uint32_t source = 9) {
    Bytes packet = plain_packet(1000);
    write_be32(std::span(packet).subspan<4, 4>(), number);
    return recv_packet_frame(numbered_key(source), packet);
  }
  static std::uint32_t number_of(const Bytes& frame) {
    return read_be32(std::span(frame).subspan(derp::kRecvPacketHeadSize + 4).first<4>());
  }
  /// Packets that gave way to others, at either end of a queue.
  static std::uint64_t made_way(const WorkerScratch& scratch) {
    std::uint64_t packets = 0;
    for (const auto reason : {DropReason::kQueueHead, DropReason::kQueueTail})
      packets += scratch.counters
                     .dropped[static_cast<std::size_t>(reason)]
                             [static_cast<std::size_t>(PacketKind::kOther)]
                     .packets.get();
    return packets;
  }
  /// What the other end can read now.
  Bytes receive() {
    Bytes all;
    std::uint8_t part[4096];
    for (;;) {
      const ssize_t size = ::recv(peer_.get(), part, sizeof part, MSG_DONTWAIT);
      if (size <= 0) {
        saw_end_ = size == 0;
        return all;
      }
      all.insert(all.end(), part, part + size);
    }
  }
  /// Lets everything through, as epoll would.
  Bytes drain() {
    Bytes all = receive();
    for (;;) {
      side_->on_writable(scratch_);
      const Bytes more = receive();
      if (more.empty()) return all;
      all.insert(all.end(), more.begin(), more.end());
    }
  }

  Watcher watcher_;
  net::UniqueFd peer_;
  std::unique_ptr<SendSide> side_;
  WorkerScratch scratch_;
  bool saw_end_ = false;
};

TEST_F(SendSideTest, SendsAtOnceAndCountsWhatWasSent) {
  deliver({numbered_frame(1), test::to_bytes(derp::kKeepAliveFrame),
           recv_packet_frame(numbered_key(9), test::disco_packet(70))});
  EXPECT_EQ(receive(), test::concat({numbered_frame(1), test::to_bytes(derp::kKeepAliveFrame),
                                     recv_packet_frame(numbered_key(9), test::disco_packet(70))}));
  EXPECT_EQ(test::nonzero(scratch_.counters), (CounterValues{
                                                  {"sent other packets", 1},
                                                  {"sent other bytes", 1000},
                                                  {"sent disco packets", 1},
                                                  {"sent disco bytes", 70},
                                              }));
  EXPECT_EQ(watcher_.told, 0);
  EXPECT_FALSE(side_->stall(scratch_).blocked);
}

TEST_F(SendSideTest, AFullSocketKeepsTheFreshestAndTearsNoFrame) {
  constexpr std::uint32_t kPackets = 400;
  for (std::uint32_t i = 0; i < kPackets; ++i) deliver({numbered_frame(i)});
  EXPECT_EQ(watcher_.told, 1) << "once, not per packet";
  EXPECT_TRUE(side_->stall(scratch_).blocked);

  const auto frames = test::split_frames(drain());
  const std::uint64_t dropped = scratch_.counters
                                    .dropped[static_cast<std::size_t>(DropReason::kQueueHead)]
                                            [static_cast<std::size_t>(PacketKind::kOther)]
                                    .packets.get();
  EXPECT_GT(dropped, 100U);
  ASSERT_EQ(frames.size() + dropped, kPackets);
  // What the socket took, a gap, and the last 32.
  const std::size_t before_gap = frames.size() - 32;
  for (std::size_t i = 0; i < frames.size(); ++i) {
    ASSERT_EQ(frames[i], numbered_frame(number_of(frames[i])));
    ASSERT_EQ(number_of(frames[i]), i < before_gap ? i : kPackets - frames.size() + i);
  }
  EXPECT_FALSE(side_->stall(scratch_).blocked);
  deliver({numbered_frame(1)});
  EXPECT_EQ(receive(), numbered_frame(1)) << "back to normal";
}

TEST_F(SendSideTest, TellsSinceWhenTheSocketTookNothing) {
  const TimePoint start = scratch_.now;
  for (std::uint32_t i = 0; i < 100; ++i) {
    scratch_.now = start + std::chrono::milliseconds(i);
    deliver({numbered_frame(i)});
  }
  const auto stuck = side_->stall(scratch_);
  ASSERT_TRUE(stuck.blocked);
  EXPECT_LT(stuck.last_progress, start + std::chrono::milliseconds(50))
      << "packets that only queue are no progress";

  scratch_.now = start + std::chrono::seconds(1);
  std::uint8_t part[8192];
  ASSERT_GT(::recv(peer_.get(), part, sizeof part, MSG_DONTWAIT), 0);
  side_->on_writable(scratch_);
  const auto moving = side_->stall(scratch_);
  if (moving.blocked) {
    EXPECT_EQ(moving.last_progress, scratch_.now);
  }
  static_cast<void>(drain());
  EXPECT_FALSE(side_->stall(scratch_).blocked);
  // It was told that all is well, so it is told anew.
  const int told = watcher_.told;
  for (std::uint32_t i = 0; i < 100; ++i) deliver({numbered_frame(i)});
  EXPECT_EQ(watcher_.told, told + 1);
}

TEST_F(SendSideTest, FinishesOnlyWhenAllIsSent) {
  for (std::uint32_t i = 0; i < 100; ++i) deliver({numbered_frame(i)});
  EXPECT_FALSE(side_->finish(scratch_));
  const auto frames = test::split_frames(drain());
  EXPECT_FALSE(saw_end_);
  EXPECT_EQ(number_of(frames.back()), 99U);
  EXPECT_TRUE(side_->finish(scratch_));
  EXPECT_TRUE(receive().empty());
  EXPECT_TRUE(saw_end_);
}

TEST_F(SendSideTest, ClosingCountsWhatIsThrownAway) {
  for (std::uint32_t i = 0; i < 100; ++i) deliver({numbered_frame(i)});
  const auto before = test::nonzero(scratch_.counters);
  side_->close(scratch_, SendSide::Ending::kWriteFailed);
  auto expected = before;
  expected["gone_disconnected other packets"] = 32;
  expected["gone_disconnected other bytes"] = 32'000;
  expected["write_error other packets"] = 1;
  EXPECT_EQ(test::nonzero(scratch_.counters), expected);

  // Others may hold it until the end of their turns.
  deliver({numbered_frame(1)});
  side_->on_writable(scratch_);
  side_->close(scratch_, SendSide::Ending::kAnnounced);
  expected["gone_disconnected other packets"] = 33;
  expected["gone_disconnected other bytes"] = 33'000;
  EXPECT_EQ(test::nonzero(scratch_.counters), expected);
  EXPECT_FALSE(side_->stall(scratch_).blocked);
}

TEST_F(SendSideTest, ABrokenSocketDropsAndWaitsForItsOwner) {
  peer_.reset();
  deliver({numbered_frame(1)});
  deliver({numbered_frame(2), numbered_frame(3)});
  EXPECT_EQ(scratch_.counters
                .dropped[static_cast<std::size_t>(DropReason::kGoneDisconnected)]
                        [static_cast<std::size_t>(PacketKind::kOther)]
                .packets.get(),
            2U);
  EXPECT_FALSE(side_->stall(scratch_).blocked);
  side_->close(scratch_, SendSide::Ending::kAnnounced);
}

// The owner asks about stalls from its timer while others deliver. Whoever finds the lock taken
// leaves its batch to the holder.
TEST_F(SendSideTest, ABatchThatMeetsAQuestionIsNotStranded) {
  constexpr std::uint32_t kRounds = 300;
  std::atomic<std::uint32_t> delivered{0};
  std::atomic<std::uint32_t> checked{0};
  std::atomic<bool> over{false};
  WorkerScratch theirs;
  theirs.now = scratch_.now;
  std::thread worker([&] {
    for (std::uint32_t round = 1; round <= kRounds; ++round) {
      side_->deliver(batch_of({numbered_frame(round)}, theirs.pool), theirs);
      delivered.store(round);
      while (checked.load() != round && !over.load()) std::this_thread::yield();
    }
  });
  std::uint32_t arrived = 0;
  for (std::uint32_t round = 1; round <= kRounds; ++round) {
    for (int asked = 1; delivered.load() != round; ++asked) {
      EXPECT_FALSE(side_->stall(scratch_).blocked);
      if (asked % 64 == 0) std::this_thread::yield();
    }
    arrived += static_cast<std::uint32_t>(test::split_frames(receive()).size());
    if (arrived != round) break;
    checked.store(round);
  }
  over.store(true);
  worker.join();
  EXPECT_EQ(arrived, kRounds);
}

// Several workers deliver to one client while its owner reads and looks after stalls. Every packet
// must arrive or be counted as dropped, without anybody coming by later to push it along.
TEST_F(SendSideTest, RacingWorkersLoseNothingThatIsNotCounted) {
  constexpr std::uint32_t kWorkers = 3;
  constexpr std::uint32_t kPacketsEach = 4000;
  std::vector<std::unique_ptr<WorkerScratch>> scratches;
  for (std::uint32_t i = 0; i < kWorkers; ++i) {
    scratches.push_back(std::make_unique<WorkerScratch>());
    scratches.back()->now = scratch_.now;
  }
  std::atomic<std::uint32_t> running{kWorkers};
  std::vector<std::thread> threads;
  for (std::uint32_t worker = 0; worker < kWorkers; ++worker) {
    threads.emplace_back([&, worker] {
      WorkerScratch& scratch = *scratches[worker];
      for (std::uint32_t number = 0; number < kPacketsEach;) {
        std::vector<Bytes> frames;
        for (std::uint32_t i = 0; i <= number % 3 && number < kPacketsEach; ++i)
          frames.push_back(numbered_frame(number++, worker));
        side_->deliver(batch_of(frames, scratch.pool), scratch);
      }
      running.fetch_sub(1);
    });
  }
  Bytes stream;
  while (running.load() != 0) {
    const Bytes part = receive();
    stream.insert(stream.end(), part.begin(), part.end());
    side_->on_writable(scratch_);
    for (int i = 0; i < 20; ++i) static_cast<void>(side_->stall(scratch_));
  }
  for (std::thread& thread : threads) thread.join();
  // Only what waits for the socket may still come, not what nobody would have sent.
  while (side_->stall(scratch_).blocked || stream.empty()) {
    const Bytes part = drain();
    stream.insert(stream.end(), part.begin(), part.end());
  }
  const Bytes rest = receive();
  stream.insert(stream.end(), rest.begin(), rest.end());

  std::uint64_t dropped = made_way(scratch_);
  for (const auto& scratch : scratches) dropped += made_way(*scratch);
  std::map<std::uint32_t, std::uint32_t> next;
  const auto frames = test::split_frames(stream);
  for (const Bytes& frame : frames) {
    const std::uint32_t worker = read_be32(std::span(frame).subspan<derp::kFrameHeaderSize, 4>());
    const std::uint32_t number = number_of(frame);
    ASSERT_EQ(frame, numbered_frame(number, worker)) << "not torn";
    ASSERT_GE(number, next[worker]) << "in order";
    next[worker] = number + 1;
  }
  EXPECT_EQ(frames.size() + dropped, kWorkers * kPacketsEach);
}

}  // namespace
}  // namespace detour::server
