// Clients that come, die and share keys while others send to them: the races between workers. What
// ThreadSanitizer and AddressSanitizer see here is the point; the counts at the end must fit, too.

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "net/fd.h"
#include "support/frames.h"
#include "support/test_relay.h"

namespace detour {
namespace {

using client::Client;
using crypto::NodePrivate;
using test::Bytes;
using test::kPatience;
using test::plain_packet;
using test::TestRelay;

/// Different on each call, the same in each run.
class Numbers {
 public:
  explicit Numbers(std::uint32_t seed) : state_(seed) {}
  std::uint32_t below(std::uint32_t limit) {
    state_ = state_ * 1664525U + 1013904223U;
    return (state_ >> 8U) % limit;
  }

 private:
  std::uint32_t state_;
};

/// Takes whatever is there, without waiting.
void take_all(Client& client) {
  for (;;) {
    const auto frame = client.receive(Duration::zero());
    if (!frame || !*frame) return;
  }
}

/// Connections that never get to log in, in every stage of it.
void knock(std::uint16_t port, Numbers& numbers) {
  const net::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto address = *net::SocketAddress::parse("127.0.0.1", port);
  if (::connect(fd.get(), address.get(), address.size()) != 0) return;
  constexpr std::string_view kWords[] = {"", "\x16\x03\x01\x02", "GET / HTTP/1.1\r\n\r\n",
                                         "nonsense that is no TLS record at all"};
  const auto words = kWords[numbers.below(4)];
  static_cast<void>(::send(fd.get(), words.data(), words.size(), MSG_NOSIGNAL));
  if (numbers.below(2) == 0) {
    const linger at_once{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  }
}

struct Setting {
  std::uint32_t workers;
  bool tls;
};

class ChurnTest : public testing::TestWithParam<Setting> {
 protected:
  TestRelay relay_{{.workers = GetParam().workers, .tls = GetParam().tls}};
};

INSTANTIATE_TEST_SUITE_P(Workers, ChurnTest,
                         testing::Values(Setting{1, true}, Setting{2, true}, Setting{4, true},
                                         Setting{4, false}),
                         [](const auto& setting) {
                           return std::to_string(setting.param.workers) + "Workers" +
                                  (setting.param.tls ? "" : "PlainHttp");
                         });

TEST_P(ChurnTest, ComingDyingAndSharingKeysUnderTraffic) {
  constexpr std::uint32_t kVisitors = 4;
  constexpr std::uint32_t kVisitsEach = 25;
  constexpr std::uint32_t kResidents = 3;
  // Visitors share these keys: often two or three of them are there with the same one.
  std::array<NodePrivate, 3> shared_keys;
  for (NodePrivate& key : shared_keys) key = NodePrivate::generate();
  std::vector<NodePrivate> own_keys;
  for (std::uint32_t i = 0; i < kVisitors; ++i) own_keys.push_back(NodePrivate::generate());

  std::vector<std::unique_ptr<Client>> residents;
  for (std::uint32_t i = 0; i < kResidents; ++i) {
    residents.push_back(relay_.dial());
    ASSERT_TRUE(residents.back());
  }
  std::atomic<std::uint32_t> visitors_left{kVisitors + 1};
  std::atomic<std::uint64_t> received_by_visitors{0};
  std::vector<std::thread> threads;

  // Residents send to everybody all the time.
  for (std::uint32_t i = 0; i < kResidents; ++i) {
    threads.emplace_back([&, i] {
      Client& self = *residents[i];
      Numbers numbers(i + 1);
      while (visitors_left.load() != 0) {
        for (const NodePrivate& key : shared_keys) {
          for (std::uint32_t n = 0; n < 4; ++n)
            ASSERT_TRUE(self.send(key.public_key(), plain_packet(numbers.below(3000))).has_value());
        }
        for (const NodePrivate& key : own_keys)
          ASSERT_TRUE(self.send(key.public_key(), test::disco_packet()).has_value());
        ASSERT_TRUE(self.send(residents[(i + 1) % kResidents]->public_key(), plain_packet(1400))
                        .has_value());
        ASSERT_TRUE(self.ping(kPatience).has_value()) << "residents are not disturbed";
        take_all(self);
      }
    });
  }
  for (std::uint32_t i = 0; i < kVisitors; ++i) {
    threads.emplace_back([&, i] {
      Numbers numbers(1000 + i);
      for (std::uint32_t visit = 0; visit < kVisitsEach; ++visit) {
        const std::uint32_t choice = numbers.below(5);
        const NodePrivate& key = choice < 3 ? shared_keys[choice] : own_keys[i];
        const auto self = relay_.dial(key);
        ASSERT_TRUE(self);
        const std::uint32_t actions = numbers.below(6);
        for (std::uint32_t action = 0; action < actions; ++action) {
          // May fail: a duplicate does not mind, and a resident always is there.
          const auto& to = *residents[numbers.below(kResidents)];
          static_cast<void>(self->send(to.public_key(), plain_packet(numbers.below(2000))));
          static_cast<void>(
              self->send(shared_keys[numbers.below(3)].public_key(), plain_packet(100)));
          const auto packet = self->receive_packet(std::chrono::milliseconds(3));
          ASSERT_TRUE(packet.has_value()) << packet.error().text();
          if (*packet) received_by_visitors.fetch_add(1);
        }
        switch (numbers.below(4)) {
          case 0:
            self->abort();
            break;
          case 1:
            // Breaks the protocol: the relay ends it while others send to it.
            static_cast<void>(self->send_raw(test::frame(derp::FrameType::kPing, plain_packet(3))));
            break;
          case 2:
            ::shutdown(self->fd(), SHUT_WR);
            break;
          default:
            self->close();
        }
      }
      visitors_left.fetch_sub(1);
    });
  }
  threads.emplace_back([&] {
    Numbers numbers(5000);
    for (std::uint32_t i = 0; i < 60; ++i) knock(relay_.port(), numbers);
    visitors_left.fetch_sub(1);
  });
  for (std::thread& thread : threads) thread.join();

  EXPECT_GT(received_by_visitors.load(), 0U) << "the test must have met traffic at all";
  EXPECT_TRUE(test::wait_until([&] {
    return relay_.metric("derp_current_connections") == kResidents &&
           relay_.metric("derp_clients_local") == kResidents;
  }));
  EXPECT_EQ(relay_.metric("derp_current_dup_client_keys"), 0U);
  EXPECT_EQ(relay_.metric("derp_current_dup_client_conns"), 0U);
  EXPECT_EQ(relay_.metric("detour_logins_total"), kResidents + kVisitors * kVisitsEach);
  // Residents still reach each other.
  for (const auto& resident : residents) take_all(*resident);
  ASSERT_TRUE(residents[0]->send(residents[1]->public_key(), plain_packet(77)).has_value());
  for (;;) {
    const auto packet = residents[1]->receive_packet(kPatience);
    ASSERT_TRUE(packet.has_value() && packet->has_value());
    if ((*packet)->bytes.size() == 77) break;
  }
}

TEST_P(ChurnTest, StoppingInTheMiddleOfEverything) {
  constexpr std::uint32_t kClients = 6;
  std::array<NodePrivate, 3> keys;
  for (NodePrivate& key : keys) key = NodePrivate::generate();
  std::atomic<std::uint32_t> logged_in{0};
  std::atomic<bool> over{false};
  std::vector<std::thread> threads;
  for (std::uint32_t i = 0; i < kClients; ++i) {
    threads.emplace_back([&, i, options = relay_.dial_options(keys[i % 3])] {
      Numbers numbers(i);
      while (!over.load()) {
        const auto dialled = Client::dial(options);
        if (!dialled) return;  // The relay is gone.
        logged_in.fetch_add(1);
        Client& self = **dialled;
        for (int n = 0; n < 200; ++n) {
          const auto sent =
              self.send(keys[numbers.below(3)].public_key(), plain_packet(numbers.below(5000)));
          if (!sent) break;
          take_all(self);
        }
      }
    });
  }
  ASSERT_TRUE(test::wait_until([&] { return logged_in.load() >= 2 * kClients; }));
  const TimePoint start = Clock::now();
  relay_.relay().stop();
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(10)) << "2 s, and what a busy machine adds";
  over.store(true);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace detour
