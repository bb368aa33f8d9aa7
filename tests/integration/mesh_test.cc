// Relays that mesh, all in this process.

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

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

const std::string kMeshKey(64, 'a');

TestRelay::Options options(std::uint32_t workers, std::vector<config::MeshPeer> peers = {},
                           std::uint16_t port = 0, std::string mesh_key = kMeshKey) {
  return {.workers = workers,
          .mesh_key = std::move(mesh_key),
          .configure = [peers = std::move(peers), port](config::Config& config) {
            config.mesh_with = peers;
            config.listen.port = port;
          }};
}

bool comes_to(const TestRelay& relay, std::string_view metric, std::uint64_t value) {
  return test::wait_until([&] { return relay.metric(metric) == value; });
}

bool has_line(const TestRelay& relay, std::string_view part) {
  for (const std::string& line : relay.log().lines()) {
    if (line.find(part) != std::string::npos) return true;
  }
  return false;
}

/// Whether a packet gets from one to the other.
testing::AssertionResult reaches(Client& sender, Client& receiver, const Bytes& packet) {
  if (!sender.send(receiver.public_key(), packet)) return testing::AssertionFailure() << "not sent";
  const auto received = receiver.receive_packet(kPatience);
  if (!received) return testing::AssertionFailure() << received.error().text();
  if (!*received) return testing::AssertionFailure() << "nothing came";
  if ((*received)->source != sender.public_key() || (*received)->bytes != packet)
    return testing::AssertionFailure() << "something else came";
  return testing::AssertionSuccess();
}

class MeshTest : public testing::TestWithParam<std::uint32_t> {};
INSTANTIATE_TEST_SUITE_P(Workers, MeshTest, testing::Values(1U, 3U));

TEST_P(MeshTest, OneWayLinksForwardOneWay) {
  const TestRelay far(options(GetParam()));
  const TestRelay near(options(GetParam(), {far.as_mesh_peer()}));
  const auto a = near.dial();
  const auto b = far.dial();
  ASSERT_TRUE(a && b);
  // b and the near relay itself.
  ASSERT_TRUE(comes_to(near, "derp_clients_remote", 2));
  EXPECT_EQ(near.metric("detour_mesh_links"), 1U);
  EXPECT_EQ(near.metric("detour_mesh_links_up"), 1U);
  EXPECT_EQ(far.metric("derp_watchers"), 1U);
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{1}, std::size_t{1400}, derp::kPacketSizeMax})
    EXPECT_TRUE(reaches(*a, *b, plain_packet(size)));
  EXPECT_TRUE(comes_to(near, "derp_packets_forwarded_out", 4));
  EXPECT_TRUE(comes_to(far, "derp_packets_forwarded_in", 4));
  EXPECT_EQ(near.metric("derp_packets_sent"), 0U);

  // The far relay has no link back.
  ASSERT_TRUE(b->send(a->public_key(), test::disco_packet()).has_value());
  const auto answer = b->receive(kPatience);
  ASSERT_TRUE(answer.has_value() && answer->has_value());
  EXPECT_EQ((*answer)->type, derp::FrameType::kPeerGone);
}

TEST_P(MeshTest, ARelayThatComesBackIsFoundAgain) {
  auto far = std::make_unique<TestRelay>(options(GetParam()));
  const TestRelay near(options(GetParam(), {far->as_mesh_peer()}));
  const std::uint16_t port = far->port();
  ASSERT_TRUE(comes_to(near, "detour_mesh_links_up", 1));
  far.reset();
  ASSERT_TRUE(comes_to(near, "detour_mesh_links_up", 0));
  EXPECT_EQ(near.metric("derp_clients_remote"), 0U);

  // The same port, and now with a link to the near one.
  far = std::make_unique<TestRelay>(options(GetParam(), {near.as_mesh_peer()}, port));
  ASSERT_TRUE(comes_to(near, "detour_mesh_links_up", 1));
  ASSERT_TRUE(comes_to(*far, "detour_mesh_links_up", 1));
  EXPECT_GE(near.metric("detour_mesh_link_failures_total"), 1U);
  const auto a = near.dial();
  const auto b = far->dial();
  ASSERT_TRUE(a && b);
  ASSERT_TRUE(comes_to(near, "derp_clients_total", 4));
  ASSERT_TRUE(comes_to(*far, "derp_clients_total", 4));
  EXPECT_TRUE(reaches(*a, *b, plain_packet(1000)));
  EXPECT_TRUE(reaches(*b, *a, plain_packet(1000)));
}

TEST_P(MeshTest, ARelayInItsOwnListIsLeftOut) {
  // The port is only known once it listens, so it takes one that was free a moment ago.
  std::uint16_t port = 0;
  {
    const TestRelay probe(options(1));
    port = probe.port();
  }
  const TestRelay self(
      options(GetParam(), {{.host = "127.0.0.1:" + std::to_string(port), .dial_host = ""}}, port));
  EXPECT_TRUE(test::wait_until([&] { return has_line(self, "is this relay itself"); }));
  EXPECT_EQ(self.metric("detour_mesh_links"), 0U);
  EXPECT_EQ(self.metric("derp_clients_total"), 0U);
  EXPECT_EQ(self.metric("derp_watchers"), 0U);
}

TEST_P(MeshTest, SaysWhyThereIsNoLink) {
  const TestRelay other_key(options(1, {}, 0, std::string(64, 'b')));
  const TestRelay no_key(options(1, {}, 0, ""));
  TestRelay::Options plain_options = options(1);
  plain_options.tls = false;
  const TestRelay plain(plain_options);
  const TestRelay near(
      options(GetParam(),
              {other_key.as_mesh_peer(),
               no_key.as_mesh_peer(),
               plain.as_mesh_peer(),
               {.host = "localhost:" + std::to_string(other_key.port()), .dial_host = "127.0.0.1"},
               {.host = "127.0.0.1:1", .dial_host = ""},
               {.host = "a.invalid", .dial_host = ""}}));
  const auto says = [&](const config::MeshPeer& peer, std::string_view why) {
    const std::string begin = "mesh peer " + peer.host + ": no link: ";
    return test::wait_until([&] {
      for (const std::string& line : near.log().lines()) {
        if (line.starts_with(begin) && line.find(why) != std::string::npos) return true;
      }
      return false;
    });
  };
  EXPECT_TRUE(says(other_key.as_mesh_peer(), "both relays need the same one"));
  EXPECT_TRUE(says(no_key.as_mesh_peer(), "both relays need the same one"));
  EXPECT_TRUE(says(plain.as_mesh_peer(), "TLS: "));
  EXPECT_TRUE(says({.host = "localhost:" + std::to_string(other_key.port()), .dial_host = ""},
                   "name the peer as its certificate does"));
  EXPECT_TRUE(says({.host = "127.0.0.1:1", .dial_host = ""}, "cannot connect to 127.0.0.1:1"));
  EXPECT_TRUE(says({.host = "a.invalid", .dial_host = ""}, "cannot look up 'a.invalid'"));
  EXPECT_EQ(near.metric("detour_mesh_links"), 6U);
  EXPECT_EQ(near.metric("detour_mesh_links_up"), 0U);
  EXPECT_EQ(near.metric("derp_clients_remote"), 0U);
}

// Reloads while packets flow: a peer that is taken out and put in again, another key on one side
// and then on both. ThreadSanitizer looks on.
TEST_P(MeshTest, TheListAndTheKeyChangeWhilePacketsFlow) {
  // Written between reloads, which read it on the same thread.
  std::string key = kMeshKey;
  const auto with_reader = [&](std::vector<config::MeshPeer> peers) {
    TestRelay::Options made = options(GetParam(), std::move(peers));
    made.read_mesh_key = [&key](const config::Config&) { return *crypto::MeshKey::parse(key); };
    return made;
  };
  TestRelay far(with_reader({}));
  TestRelay near(with_reader({far.as_mesh_peer()}));
  const auto b = far.dial();
  ASSERT_TRUE(b);
  std::atomic<bool> done{false};
  std::thread sending([&] {
    const auto sender = near.dial();
    while (sender && !done.load()) {
      for (int n = 0; n < 50; ++n)
        if (!sender->send(b->public_key(), plain_packet(500))) return;
      if (!sender->ping(kPatience)) return;
    }
  });
  config::Config without = near.config();
  without.mesh_with.clear();
  for (int round = 0; round < 5; ++round) {
    EXPECT_TRUE(comes_to(near, "detour_mesh_links_up", 1));
    near.relay().reload(without);
    EXPECT_TRUE(comes_to(near, "detour_mesh_links", 0));
    EXPECT_TRUE(comes_to(near, "derp_clients_remote", 0));
    near.relay().reload(near.config());
  }
  ASSERT_TRUE(comes_to(near, "detour_mesh_links_up", 1));
  ASSERT_TRUE(comes_to(far, "derp_watchers", 1));

  // The same key again is no reason to close anything.
  far.relay().reload(far.config());
  EXPECT_FALSE(has_line(far, "the mesh key is another one"));
  key = std::string(64, 'b');
  far.relay().reload(far.config());
  EXPECT_TRUE(comes_to(far, "derp_watchers", 0));
  EXPECT_TRUE(comes_to(near, "detour_mesh_links_up", 0));
  near.relay().reload(near.config());
  EXPECT_TRUE(comes_to(near, "detour_mesh_links_up", 1));
  EXPECT_TRUE(comes_to(far, "derp_watchers", 1));
  done.store(true);
  sending.join();
}

// Clients of the near relay send to clients of the far one, which come and go, and so does the far
// relay itself. Nothing breaks, and ThreadSanitizer looks on.
TEST_P(MeshTest, StaysWholeWhileEverythingComesAndGoes) {
  constexpr int kRestarts = 3;
  constexpr std::size_t kSenders = 3;
  auto far = std::make_unique<TestRelay>(options(GetParam()));
  const std::uint16_t port = far->port();
  const TestRelay near(options(GetParam(), {far->as_mesh_peer()}));
  std::vector<NodePrivate> keys;
  for (std::size_t i = 0; i < kSenders; ++i) keys.push_back(NodePrivate::generate());

  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kSenders; ++i) {
    threads.emplace_back([&, i] {
      const auto sender = near.dial();
      if (!sender) return;
      while (!done.load()) {
        // Half of the time the destination is here too, and wins.
        const auto here = i == 0 ? nullptr : near.dial(keys[i]);
        for (int n = 0; n < 50; ++n) {
          for (const NodePrivate& key : keys) {
            if (!sender->send(key.public_key(), plain_packet(500)) ||
                !sender->send(key.public_key(), test::disco_packet()))
              return;
          }
        }
        if (!sender->ping(kPatience)) return;
      }
    });
  }
  for (int restart = 0; restart < kRestarts; ++restart) {
    EXPECT_TRUE(comes_to(near, "detour_mesh_links_up", 1));
    for (int round = 0; round < 5; ++round) {
      std::vector<std::unique_ptr<Client>> clients;
      for (const NodePrivate& key : keys) clients.push_back(far->dial(key));
      const auto before = near.metric("derp_packets_forwarded_out");
      EXPECT_TRUE(test::wait_until(
          [&] { return near.metric("derp_packets_forwarded_out") > before + 20; }));
    }
    if (restart + 1 == kRestarts) break;
    far.reset();
    far = std::make_unique<TestRelay>(options(GetParam(), {}, port));
  }
  done.store(true);
  for (std::thread& thread : threads) thread.join();

  const auto a = near.dial();
  const auto b = far->dial();
  ASSERT_TRUE(a && b);
  ASSERT_TRUE(comes_to(near, "derp_clients_remote", 2));
  EXPECT_TRUE(reaches(*a, *b, plain_packet(100)));
}

}  // namespace
}  // namespace detour
