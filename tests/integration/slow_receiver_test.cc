// A receiver that stops reading: what it loses, how it ends, and that nobody else notices.

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "support/frames.h"
#include "support/says.h"
#include "support/test_relay.h"

namespace detour {
namespace {

using client::Client;
using std::chrono::milliseconds;
using std::chrono::seconds;
using test::Bytes;
using test::kPatience;
using test::plain_packet;
using test::TestRelay;

constexpr std::size_t kPacketSize = 1400;
constexpr std::string_view kQueueHead =
    "derp_packets_dropped{reason=\"queue_head\",kind=\"other\"}";

Bytes numbered_packet(std::uint32_t number) {
  Bytes packet = plain_packet(kPacketSize);
  write_be32(std::span(packet).subspan<4, 4>(), number);
  return packet;
}
std::uint32_t number_of(std::span<const std::uint8_t> packet) {
  return read_be32(packet.subspan<4, 4>());
}

class SlowReceiverTest : public testing::TestWithParam<std::uint32_t> {
 protected:
  void start(Duration write_timeout) {
    relay_ = std::make_unique<TestRelay>(
        TestRelay::Options{.workers = GetParam(), .write_timeout = write_timeout});
    auto options = relay_->dial_options(crypto::NodePrivate::generate());
    options.receive_buffer = 8 * 1024;
    auto dialled = Client::dial(options);
    ASSERT_TRUE(dialled.has_value()) << dialled.error().text();
    frozen_ = std::move(*dialled);
    sender_ = relay_->dial();
    ASSERT_TRUE(sender_);
  }
  /// Sends until packets make way for others in the relay. Gives how many were sent.
  std::uint32_t send_until_full() {
    std::uint32_t sent = 0;
    while (sent < 20'000 && relay_->metric(kQueueHead) < 50) {
      for (int i = 0; i < 50; ++i)
        EXPECT_TRUE(sender_->send(frozen_->public_key(), numbered_packet(sent++)).has_value());
      // Behind the answer, all of these have been handled.
      EXPECT_TRUE(sender_->ping(kPatience).has_value());
    }
    EXPECT_GE(relay_->metric(kQueueHead), 50U);
    return sent;
  }

  std::unique_ptr<TestRelay> relay_;
  std::unique_ptr<Client> frozen_;
  std::unique_ptr<Client> sender_;
};

INSTANTIATE_TEST_SUITE_P(Workers, SlowReceiverTest, testing::Values(1U, 2U, 4U),
                         [](const auto& workers) {
                           return std::to_string(workers.param) + "Workers";
                         });

TEST_P(SlowReceiverTest, GetsTheFreshestWhenItReadsAgain) {
  start(/*write_timeout=*/Duration::zero());
  const std::uint32_t sent = send_until_full();
  ASSERT_FALSE(HasFailure());
  std::vector<std::uint32_t> numbers;
  while (numbers.empty() || numbers.back() != sent - 1) {
    const auto packet = frozen_->receive_packet(kPatience);
    ASSERT_TRUE(packet.has_value()) << packet.error().text();
    ASSERT_TRUE(packet->has_value()) << "the last one did not come";
    numbers.push_back(number_of((*packet)->bytes));
    ASSERT_TRUE((*packet)->bytes == numbered_packet(numbers.back()));
  }
  // The first ones lay in the sockets; then a gap; then the 32 that were freshest.
  EXPECT_EQ(numbers.size() + relay_->metric(kQueueHead), sent);
  const std::size_t before_gap = numbers.size() - 32;
  for (std::size_t i = 0; i < numbers.size(); ++i)
    ASSERT_EQ(numbers[i], i < before_gap ? i : sent - (numbers.size() - i));

  ASSERT_TRUE(sender_->send(frozen_->public_key(), numbered_packet(7)).has_value());
  const auto after = frozen_->receive_packet(kPatience);
  ASSERT_TRUE(after.has_value() && after->has_value());
  EXPECT_EQ(number_of((*after)->bytes), 7U);
  EXPECT_EQ(relay_->dropped(), relay_->metric(kQueueHead));
}

TEST_P(SlowReceiverTest, IsCutOffAfterTheWriteTimeoutWhileOthersGoOn) {
  start(/*write_timeout=*/milliseconds(300));
  const auto other_sender = relay_->dial();
  const auto other_receiver = relay_->dial();
  ASSERT_TRUE(other_sender && other_receiver);
  std::atomic<bool> over{false};
  std::atomic<std::uint32_t> exchanged{0};
  std::thread others([&] {
    while (!over.load()) {
      const std::uint32_t number = exchanged.load();
      ASSERT_TRUE(
          other_sender->send(other_receiver->public_key(), numbered_packet(number)).has_value());
      const auto packet = other_receiver->receive_packet(kPatience);
      ASSERT_TRUE(packet.has_value() && packet->has_value());
      ASSERT_EQ(number_of((*packet)->bytes), number);
      exchanged.store(number + 1);
    }
  });
  std::uint32_t sent = 0;
  const std::uint32_t exchanged_before = exchanged.load();
  while (relay_->metric("derp_sclient_write_timeouts") == 0 && sent < 1'000'000) {
    for (int i = 0; i < 20; ++i)
      EXPECT_TRUE(sender_->send(frozen_->public_key(), numbered_packet(sent++)).has_value());
    EXPECT_TRUE(sender_->ping(kPatience).has_value());
  }
  EXPECT_EQ(relay_->metric("derp_sclient_write_timeouts"), 1U);
  const std::uint32_t exchanged_at_the_end = exchanged.load();
  EXPECT_GT(exchanged_at_the_end, exchanged_before + 10);

  // Its key is gone, and what it still reads ends.
  EXPECT_TRUE(test::wait_until([&] { return relay_->metric("derp_current_connections") == 3; }));
  const std::uint64_t unknown =
      relay_->metric("derp_packets_dropped{reason=\"unknown_dest\",kind=\"other\"}");
  EXPECT_TRUE(sender_->send(frozen_->public_key(), numbered_packet(0)).has_value());
  EXPECT_TRUE(sender_->ping(kPatience).has_value());
  EXPECT_EQ(relay_->metric("derp_packets_dropped{reason=\"unknown_dest\",kind=\"other\"}"),
            unknown + 1);
  // What waited is counted when the connection is closed, which is after its key went; packets that
  // were being delivered just then come on top.
  EXPECT_TRUE(test::wait_until([&] {
    return relay_->metric("derp_packets_dropped{reason=\"write_error\",kind=\"other\"}") == 1 &&
           relay_->metric("derp_packets_dropped{reason=\"gone_disconnected\",kind=\"other\"}") >=
               32;
  }));
  for (;;) {
    const auto frame = frozen_->receive(kPatience);
    if (!frame) break;
    ASSERT_TRUE(frame->has_value()) << "the connection should have ended";
  }
  over.store(true);
  others.join();
  EXPECT_TRUE(test::says(relay_->log().lines(), "took no data for 300 ms"));
}

TEST_P(SlowReceiverTest, ReadingALittleKeepsItConnected) {
  start(/*write_timeout=*/milliseconds(400));
  static_cast<void>(send_until_full());
  ASSERT_FALSE(HasFailure());
  // For several timeouts on end it takes a little, and is sent more than that.
  const TimePoint end = Clock::now() + milliseconds(1500);
  std::uint32_t sent = 100'000;
  while (Clock::now() < end) {
    ASSERT_TRUE(sender_->send(frozen_->public_key(), numbered_packet(sent++)).has_value());
    const auto packet = frozen_->receive_packet(kPatience);
    ASSERT_TRUE(packet.has_value()) << packet.error().text();
    ASSERT_TRUE(packet->has_value());
    ASSERT_TRUE(sender_->ping(kPatience).has_value());
  }
  EXPECT_EQ(relay_->metric("derp_sclient_write_timeouts"), 0U);
}

TEST_P(SlowReceiverTest, StopSendsWhatIsQueued) {
  start(/*write_timeout=*/Duration::zero());
  const std::uint32_t sent = send_until_full();
  ASSERT_FALSE(HasFailure());
  const std::uint64_t dropped = relay_->metric(kQueueHead);
  Duration stopped_in{};
  std::thread stopper([&] {
    const TimePoint start = Clock::now();
    relay_->relay().stop();
    stopped_in = Clock::now() - start;
  });
  std::uint32_t received = 0;
  std::uint32_t last = 0;
  for (;;) {
    const auto frame = frozen_->receive(kPatience);
    if (!frame) break;
    ASSERT_TRUE(frame->has_value()) << "the connection should have ended";
    if ((*frame)->type != derp::FrameType::kRecvPacket) continue;
    last = number_of((*frame)->payload.subspan(crypto::kKeySize));
    ++received;
  }
  frozen_.reset();
  stopper.join();
  EXPECT_EQ(last, sent - 1);
  EXPECT_EQ(received + dropped, sent);
  EXPECT_LT(stopped_in, seconds(10)) << "2 s, and what a busy machine adds";
}

TEST_P(SlowReceiverTest, StopDoesNotWaitForThoseWhoDoNotRead) {
  start(/*write_timeout=*/Duration::zero());
  static_cast<void>(send_until_full());
  ASSERT_FALSE(HasFailure());
  const TimePoint start = Clock::now();
  relay_->relay().stop();
  EXPECT_LT(Clock::now() - start, seconds(10)) << "2 s, and what a busy machine adds";
}

}  // namespace
}  // namespace detour
