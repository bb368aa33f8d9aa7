// Clients on a whole relay: what they get, whichever workers they live on.

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "support/frames.h"
#include "support/test_relay.h"

namespace detour {
namespace {

using client::Client;
using crypto::NodePrivate;
using crypto::NodePublic;
using derp::FrameType;
using test::Bytes;
using test::kPatience;
using test::plain_packet;
using test::TestRelay;

/// The frames that came before the answer to a ping: all that the relay had for this client so far.
std::vector<Bytes> frames_until_pong(Client& client) {
  const derp::PingData data{'u', 'n', 't', 'i', 'l'};
  EXPECT_TRUE(client.send_raw(derp::encode_ping(data)).has_value());
  std::vector<Bytes> frames;
  for (;;) {
    const auto frame = client.receive(kPatience);
    if (!frame || !*frame) {
      ADD_FAILURE() << "no Pong" << (frame ? "" : ": " + frame.error().text());
      return frames;
    }
    if ((*frame)->type == FrameType::kPong) return frames;
    frames.push_back(test::frame((*frame)->type, (*frame)->payload));
  }
}

Bytes gone_frame(const NodePublic& key) {
  return test::to_bytes(derp::encode_peer_gone(key, derp::PeerGoneReason::kDisconnected));
}

/// A packet that carries a number, and is long enough that records split.
Bytes numbered_packet(std::uint32_t number, std::size_t size = 1200) {
  Bytes packet = plain_packet(size, static_cast<std::uint8_t>(number));
  write_be32(std::span(packet).subspan<4, 4>(), number);
  return packet;
}
std::uint32_t number_of(std::span<const std::uint8_t> packet) {
  return read_be32(packet.subspan<4, 4>());
}

struct Setting {
  std::uint32_t workers;
  bool tls;
};

class RelayingTest : public testing::TestWithParam<Setting> {
 protected:
  /// What was sent is counted behind the sending, so a client may be ahead of the counters.
  testing::AssertionResult comes_to(std::string_view metric, std::uint64_t value) {
    if (test::wait_until([&] { return relay_.metric(metric) == value; }))
      return testing::AssertionSuccess();
    return testing::AssertionFailure() << metric << " is " << relay_.metric(metric);
  }

  TestRelay relay_{{.workers = GetParam().workers, .tls = GetParam().tls}};
};

INSTANTIATE_TEST_SUITE_P(Workers, RelayingTest,
                         testing::Values(Setting{1, true}, Setting{2, true}, Setting{4, true},
                                         Setting{2, false}),
                         [](const auto& setting) {
                           return std::to_string(setting.param.workers) + "Workers" +
                                  (setting.param.tls ? "" : "PlainHttp");
                         });

TEST_P(RelayingTest, PairsGetTheirPacketsWholeAndInOrder) {
  constexpr std::size_t kPairs = 6;
  constexpr std::uint32_t kRounds = 20;
  constexpr std::uint32_t kInFlight = 20;
  // Connections go to the worker with the fewest: the two of a pair land on different ones.
  std::vector<std::unique_ptr<Client>> senders;
  std::vector<std::unique_ptr<Client>> receivers;
  for (std::size_t i = 0; i < kPairs; ++i) {
    senders.push_back(relay_.dial());
    receivers.push_back(relay_.dial());
    ASSERT_TRUE(senders.back() && receivers.back());
    EXPECT_EQ(senders.back()->relay().key, relay_.relay().public_key());
  }
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kPairs; ++i) {
    threads.emplace_back([&sender = *senders[i], &receiver = *receivers[i]] {
      for (std::uint32_t round = 0; round < kRounds; ++round) {
        for (std::uint32_t n = 0; n < kInFlight; ++n) {
          const std::uint32_t number = round * kInFlight + n;
          const auto sent =
              sender.send(receiver.public_key(), numbered_packet(number, 8 + (number * 97) % 3000));
          ASSERT_TRUE(sent.has_value()) << sent.error().text();
        }
        for (std::uint32_t n = 0; n < kInFlight; ++n) {
          const std::uint32_t number = round * kInFlight + n;
          const auto packet = receiver.receive_packet(kPatience);
          ASSERT_TRUE(packet.has_value()) << packet.error().text();
          ASSERT_TRUE(packet->has_value()) << "packet " << number << " did not come";
          ASSERT_EQ((*packet)->source, sender.public_key());
          ASSERT_TRUE((*packet)->bytes == numbered_packet(number, 8 + (number * 97) % 3000));
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(relay_.dropped(), 0U);
  EXPECT_TRUE(comes_to("derp_packets_sent", kPairs * kRounds * kInFlight));
  EXPECT_EQ(relay_.metric("derp_packets_received"), kPairs * kRounds * kInFlight);
  EXPECT_EQ(relay_.metric("derp_current_connections"), 2 * kPairs);
}

TEST_P(RelayingTest, PacketsOfEverySizeArrive) {
  const auto sender = relay_.dial();
  const auto receiver = relay_.dial();
  ASSERT_TRUE(sender && receiver);
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{1}, std::size_t{61}, std::size_t{1400}, std::size_t{8155},
        std::size_t{16'384}, std::size_t{65'535}, derp::kPacketSizeMax}) {
    SCOPED_TRACE(size);
    ASSERT_TRUE(sender->send(receiver->public_key(), plain_packet(size)).has_value());
    const auto packet = receiver->receive_packet(kPatience);
    ASSERT_TRUE(packet.has_value() && packet->has_value());
    EXPECT_TRUE((*packet)->bytes == plain_packet(size));
  }
}

TEST_P(RelayingTest, ManyToOneLosesNothingThatIsNotCounted) {
  constexpr std::uint32_t kSenders = 5;
  constexpr std::uint32_t kPackets = 600;
  const auto receiver = relay_.dial();
  ASSERT_TRUE(receiver);
  std::vector<std::unique_ptr<Client>> senders;
  std::map<NodePublic, std::uint32_t> next;
  for (std::uint32_t i = 0; i < kSenders; ++i) {
    senders.push_back(relay_.dial());
    ASSERT_TRUE(senders.back());
    next[senders.back()->public_key()] = 0;
  }
  std::vector<std::thread> threads;
  for (const auto& sender : senders) {
    threads.emplace_back([&sender, to = receiver->public_key()] {
      for (std::uint32_t i = 0; i < kPackets; ++i)
        ASSERT_TRUE(sender->send(to, numbered_packet(i)).has_value());
      ASSERT_TRUE(sender->ping(kPatience).has_value());
    });
  }
  std::uint64_t arrived = 0;
  const TimePoint deadline = Clock::now() + kPatience;
  while (arrived + relay_.dropped() < kSenders * kPackets && Clock::now() < deadline) {
    const auto packet = receiver->receive_packet(std::chrono::milliseconds(20));
    ASSERT_TRUE(packet.has_value()) << packet.error().text();
    if (!*packet) continue;
    ++arrived;
    std::uint32_t& expected = next[(*packet)->source];
    const std::uint32_t number = number_of((*packet)->bytes);
    ASSERT_GE(number, expected) << "in order for each source";
    ASSERT_TRUE((*packet)->bytes == numbered_packet(number));
    expected = number + 1;
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(arrived + relay_.dropped(), kSenders * kPackets);
  EXPECT_TRUE(comes_to("derp_packets_sent", arrived));
}

TEST_P(RelayingTest, OnlyThoseWhoWereSentPacketsHearOfADeparture) {
  auto leaver = relay_.dial();
  const auto heard = relay_.dial();
  const auto bystander = relay_.dial();
  ASSERT_TRUE(leaver && heard && bystander);
  const NodePublic key = leaver->public_key();
  ASSERT_TRUE(leaver->send(heard->public_key(), plain_packet(10)).has_value());
  ASSERT_TRUE(heard->receive_packet(kPatience)->has_value());
  ASSERT_TRUE(bystander->send(key, plain_packet(10)).has_value());
  ASSERT_TRUE(leaver->receive_packet(kPatience)->has_value());
  leaver.reset();

  const auto frame = heard->receive(kPatience);
  ASSERT_TRUE(frame.has_value() && frame->has_value());
  EXPECT_EQ(test::frame((*frame)->type, (*frame)->payload), gone_frame(key));
  EXPECT_TRUE(frames_until_pong(*heard).empty()) << "once";
  EXPECT_TRUE(frames_until_pong(*bystander).empty());
  EXPECT_TRUE(comes_to("derp_peer_gone_disconnected_frames", 1));
}

TEST_P(RelayingTest, ADepartureIsNoDepartureWhileADuplicateStays) {
  const auto key = NodePrivate::generate();
  auto first = relay_.dial(key);
  const auto heard = relay_.dial();
  ASSERT_TRUE(first && heard);
  ASSERT_TRUE(first->send(heard->public_key(), plain_packet(10)).has_value());
  ASSERT_TRUE(heard->receive_packet(kPatience)->has_value());
  auto second = relay_.dial(key);
  ASSERT_TRUE(second);
  EXPECT_EQ(relay_.metric("derp_current_dup_client_keys"), 1U);
  EXPECT_EQ(relay_.metric("derp_current_dup_client_conns"), 2U);

  first.reset();
  ASSERT_TRUE(comes_to("derp_current_connections", 2));
  EXPECT_EQ(relay_.metric("derp_current_dup_client_keys"), 0U);
  EXPECT_TRUE(frames_until_pong(*heard).empty());
  ASSERT_TRUE(heard->send(second->public_key(), plain_packet(20)).has_value());
  ASSERT_TRUE(second->receive_packet(kPatience)->has_value());

  second.reset();
  const auto frame = heard->receive(kPatience);
  ASSERT_TRUE(frame.has_value() && frame->has_value());
  EXPECT_EQ(test::frame((*frame)->type, (*frame)->payload), gone_frame(key.public_key()));
}

TEST_P(RelayingTest, OfDuplicatesTheLastToSpeakReceives) {
  const auto key = NodePrivate::generate();
  const auto first = relay_.dial(key);
  const auto second = relay_.dial(key);
  const auto third = relay_.dial(key);
  const auto sender = relay_.dial();
  ASSERT_TRUE(first && second && third && sender);
  Client* const same[] = {first.get(), second.get(), third.get()};
  for (std::uint32_t round = 0; round < 24; ++round) {
    Client& speaker = *same[(round * 5 + round / 4) % 3];
    ASSERT_TRUE(speaker.ping(kPatience).has_value());
    ASSERT_TRUE(sender->send(key.public_key(), numbered_packet(round)).has_value());
    const auto packet = speaker.receive_packet(kPatience);
    ASSERT_TRUE(packet.has_value() && packet->has_value()) << "round " << round;
    ASSERT_EQ(number_of((*packet)->bytes), round);
  }
  EXPECT_EQ(relay_.dropped(), 0U);
}

TEST_P(RelayingTest, DiscoToNobodyIsAnsweredAndDataIsNot) {
  const auto client = relay_.dial();
  ASSERT_TRUE(client);
  const auto nobody = NodePrivate::generate().public_key();
  for (int i = 0; i < 6; ++i) {
    ASSERT_TRUE(client->send(nobody, plain_packet(100)).has_value());
    ASSERT_TRUE(client->send(nobody, test::disco_packet()).has_value());
  }
  const auto not_here =
      test::to_bytes(derp::encode_peer_gone(nobody, derp::PeerGoneReason::kNotHere));
  const auto answers = frames_until_pong(*client);
  // Three at once; a slow machine may take longer than the second that brings the next.
  EXPECT_GE(answers.size(), 3U);
  EXPECT_LE(answers.size(), 5U);
  for (const Bytes& answer : answers) EXPECT_EQ(answer, not_here);
  EXPECT_EQ(relay_.metric("derp_packets_dropped{reason=\"unknown_dest\",kind=\"other\"}"), 6U);
  EXPECT_EQ(relay_.metric("derp_packets_dropped{reason=\"unknown_dest\",kind=\"disco\"}"), 6U);
}

TEST_P(RelayingTest, ABrokenFrameEndsItsConnectionAndNoOther) {
  const auto breaker = relay_.dial();
  const auto sender = relay_.dial();
  const auto receiver = relay_.dial();
  ASSERT_TRUE(breaker && sender && receiver);
  ASSERT_TRUE(breaker->send_raw(test::frame(FrameType::kPing, plain_packet(7))).has_value());
  const auto end = breaker->receive(kPatience);
  EXPECT_FALSE(end.has_value()) << "closed, without a word";
  ASSERT_TRUE(sender->send(receiver->public_key(), plain_packet(10)).has_value());
  ASSERT_TRUE(receiver->receive_packet(kPatience)->has_value());
}

}  // namespace
}  // namespace detour
