// What a whole relay says of itself while it works.

#include "admin/status.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "server/surveyor.h"
#include "support/frames.h"
#include "support/temp_folder.h"
#include "support/test_relay.h"

namespace detour {
namespace {

using admin::ClientStatus;
using admin::RelayStatus;
using client::Client;
using crypto::NodePrivate;
using crypto::NodePublic;
using std::chrono::milliseconds;
using std::chrono::seconds;
using test::kPatience;
using test::plain_packet;
using test::TestRelay;

const ClientStatus* find(const RelayStatus& status, const NodePublic& key) {
  const auto found = std::ranges::find_if(
      status.clients, [&](const ClientStatus& client) { return client.identity.key == key; });
  return found == status.clients.end() ? nullptr : &*found;
}

bool send_and_receive(Client& sender, Client& receiver, std::size_t size) {
  if (!sender.send(receiver.public_key(), plain_packet(size))) return false;
  const auto packet = receiver.receive_packet(kPatience);
  return packet && *packet;
}

class StatusTest : public testing::TestWithParam<std::uint32_t> {};
INSTANTIATE_TEST_SUITE_P(Workers, StatusTest, testing::Values(1U, 3U));

TEST_P(StatusTest, TellsOfEachClientWhatItDid) {
  TestRelay relay({.workers = GetParam()});
  const auto a = relay.dial();
  const auto b = relay.dial();
  ASSERT_TRUE(a && b);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(send_and_receive(*a, *b, 1000));
  ASSERT_TRUE(send_and_receive(*b, *a, 10));
  ASSERT_TRUE(a->send(NodePrivate::generate().public_key(), plain_packet(7)).has_value());
  ASSERT_TRUE(a->send_raw(test::frame(derp::FrameType::kNotePreferred, {{1}})).has_value());
  ASSERT_TRUE(a->ping(kPatience).has_value());
  ASSERT_TRUE(b->ping(kPatience).has_value());

  const auto status = relay.relay().status();
  EXPECT_EQ(status->workers, GetParam());
  EXPECT_TRUE(status->silent_workers.empty());
  EXPECT_EQ(status->public_key, relay.relay().public_key().typed());
  EXPECT_EQ(status->state, "serving");
  EXPECT_EQ(status->connections, 2U);
  ASSERT_EQ(status->clients.size(), 2U);
  const ClientStatus* const of_a = find(*status, a->public_key());
  const ClientStatus* const of_b = find(*status, b->public_key());
  ASSERT_TRUE(of_a && of_b);
  EXPECT_EQ(of_a->received.packets, 11U);
  EXPECT_EQ(of_a->received.bytes, 10'007U);
  EXPECT_EQ(of_a->received.unknown_dest, 1U);
  EXPECT_EQ(of_a->sent_packets, 1U);
  EXPECT_EQ(of_a->sent_bytes, 10U);
  EXPECT_TRUE(of_a->is_home);
  EXPECT_TRUE(of_a->is_active);
  EXPECT_FALSE(of_a->is_duplicate);
  EXPECT_EQ(of_a->identity.version, 2);
  EXPECT_EQ(of_a->tls, "1.3");
  EXPECT_LT(of_a->worker, GetParam());
  EXPECT_EQ(admin::ip_text(of_a->identity.address), "127.0.0.1");
  ASSERT_TRUE(of_a->tcp.has_value());
  EXPECT_GT(of_a->tcp->congestion_window, 0U);
  EXPECT_GT(of_a->tcp->received_bytes, 10'007U);
  EXPECT_FALSE(of_b->is_home);
  EXPECT_EQ(of_b->sent_packets, 10U);
  EXPECT_EQ(of_b->sent_bytes, 10'000U);
  EXPECT_EQ(of_b->received.packets, 1U);

  ASSERT_EQ(status->pairs.size(), 1U) << "both ways are one pair";
  EXPECT_EQ(status->pairs[0].bytes(), 10'010U);
}

TEST_P(StatusTest, WalksAlongMoreClientsThanOneTurnTakesWhileTheyComeAndGo) {
  TestRelay relay({.workers = GetParam(), .tls = false});
  // Three turns' worth for each worker.
  const std::size_t count = 192 * GetParam();
  std::vector<std::unique_ptr<Client>> clients;
  std::set<NodePublic> keys;
  for (std::size_t i = 0; i < count; ++i) {
    clients.push_back(relay.dial());
    ASSERT_TRUE(clients.back());
    keys.insert(clients.back()->public_key());
  }
  std::atomic<bool> over{false};
  std::thread churn([&] {
    while (!over.load()) {
      const auto come_and_go = relay.dial();
      if (come_and_go && come_and_go->ping(kPatience)) come_and_go->close();
    }
  });
  for (int round = 0; round < 20; ++round) {
    const auto status = relay.relay().status();
    EXPECT_TRUE(status->silent_workers.empty());
    std::set<relay::ClientId> ids;
    std::size_t known = 0;
    for (const ClientStatus& client : status->clients) {
      EXPECT_TRUE(ids.insert(client.identity.id).second) << "nobody is told of twice";
      if (keys.contains(client.identity.key)) ++known;
    }
    EXPECT_EQ(known, count) << "who is there all the time is always told of";
  }
  over = true;
  churn.join();
}

TEST_P(StatusTest, KnowsWhoseDuplicateReceives) {
  TestRelay relay({.workers = GetParam()});
  const auto key = NodePrivate::generate();
  const auto first = relay.dial(key);
  const auto second = relay.dial(key);
  ASSERT_TRUE(first && second);
  const auto status = relay.relay().status();
  ASSERT_EQ(status->clients.size(), 2U);
  EXPECT_TRUE(status->clients[0].is_duplicate && status->clients[1].is_duplicate);
  EXPECT_FALSE(status->clients[0].is_active) << "clients are told of in the order they came";
  EXPECT_TRUE(status->clients[1].is_active);
}

TEST_P(StatusTest, ShowsWhatWaitsAndWhatWasDropped) {
  TestRelay relay({.workers = GetParam(), .write_timeout = seconds(600)});
  auto options = relay.dial_options(NodePrivate::generate());
  options.receive_buffer = 8 * 1024;
  auto frozen = Client::dial(options);
  const auto sender = relay.dial();
  ASSERT_TRUE(frozen.has_value() && sender);
  for (int i = 0; i < 20'000 && relay.dropped() < 50; ++i) {
    ASSERT_TRUE(sender->send((*frozen)->public_key(), plain_packet(1400)).has_value());
    if (i % 50 == 0) {
      ASSERT_TRUE(sender->ping(kPatience).has_value());
    }
  }
  ASSERT_TRUE(sender->ping(kPatience).has_value());
  const auto status = relay.relay().status();
  const ClientStatus* const stuck = find(*status, (*frozen)->public_key());
  ASSERT_NE(stuck, nullptr);
  EXPECT_EQ(stuck->waiting_data, 32U);
  EXPECT_GT(stuck->waiting_bytes, 32U * 1400);
  EXPECT_EQ(stuck->evicted_packets, relay.dropped());
  const ClientStatus* const well = find(*status, sender->public_key());
  ASSERT_NE(well, nullptr);
  EXPECT_EQ(well->evicted_packets, 0U);
}

TEST(RelayStatusTest, ReusesAPictureThatIsYoungEnough) {
  TestRelay relay({});
  const auto first = relay.relay().status();
  EXPECT_EQ(relay.relay().status(seconds(3600)), first);
  const auto client = relay.dial();
  ASSERT_TRUE(client);
  const auto second = relay.relay().status();
  EXPECT_NE(second, first);
  EXPECT_EQ(second->clients.size(), 1U);
}

TEST(RelayStatusTest, MeasuresRatesSinceThePictureBefore) {
  TestRelay relay({});
  const auto a = relay.dial();
  const auto b = relay.dial();
  ASSERT_TRUE(a && b);
  const auto before = relay.relay().status();
  EXPECT_FALSE(before->clients[0].received_per_second.has_value());
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(send_and_receive(*a, *b, 1000));
  ASSERT_TRUE(a->ping(kPatience).has_value());
  std::this_thread::sleep_for(milliseconds(150));  // The shortest time that rates are told of.
  const auto status = relay.relay().status();
  const double passed = std::chrono::duration<double>(status->now - before->now).count();
  const ClientStatus* const of_a = find(*status, a->public_key());
  ASSERT_TRUE(of_a != nullptr && of_a->received_per_second.has_value());
  EXPECT_NEAR(*of_a->received_per_second, 100'000 / passed, 1);
  EXPECT_NEAR(*of_a->sent_per_second, 0, 1);
  ASSERT_TRUE(status->received_per_second.has_value());
  EXPECT_NEAR(*status->received_per_second, 100'000 / passed, 1);
}

TEST(RelayStatusTest, NamesClientsAsTheAllowFileDoes) {
  const test::TempFolder folder;
  const auto named = NodePrivate::generate();
  const auto nameless = NodePrivate::generate();
  const auto file =
      folder.write("allow", named.public_key().typed() + " laptop of Anna # since May\n" +
                                nameless.public_key().typed() + "\n");
  TestRelay relay({.configure = [&](config::Config& config) { config.allow_file = file; }});
  const auto a = relay.dial(named);
  const auto b = relay.dial(nameless);
  ASSERT_TRUE(a && b);
  ASSERT_TRUE(send_and_receive(*a, *b, 100));
  const auto status = relay.relay().status();
  ASSERT_EQ(status->clients.size(), 2U);
  EXPECT_EQ(find(*status, named.public_key())->name, "laptop of Anna");
  EXPECT_EQ(find(*status, nameless.public_key())->name, "");
  ASSERT_EQ(status->pairs.size(), 1U);
  EXPECT_EQ(status->pairs[0].name_a + status->pairs[0].name_b, "laptop of Anna");
  EXPECT_TRUE(status->admission.is_checking);
  EXPECT_EQ(status->admission.allow_file, file);
  EXPECT_EQ(status->admission.allow_file_keys, 2U);
}

TEST(RelayStatusTest, SaysWhichSourceOfAdmissionFails) {
  const test::TempFolder folder;
  TestRelay relay({.configure = [&](config::Config& config) {
    config.verify_clients = true;
    config.tailscaled_sockets = {folder.path("nobody.sock")};
  }});
  EXPECT_FALSE(relay.relay().status()->admission.sources.at(0).was_asked);
  auto options = relay.dial_options(NodePrivate::generate());
  options.timeout = seconds(1);
  EXPECT_FALSE(Client::dial(options).has_value());
  ASSERT_TRUE(
      test::wait_until([&] { return relay.relay().status()->admission.sources.at(0).is_failing; }));
  const auto source = relay.relay().status()->admission.sources.at(0);
  EXPECT_EQ(source.kind, "tailscaled");
  EXPECT_EQ(source.where, folder.path("nobody.sock"));
  EXPECT_NE(source.last_error.find("nobody.sock"), std::string::npos) << source.last_error;
}

TEST(RelayStatusTest, TellsOfMeshLinks) {
  const std::string mesh_key(64, 'a');
  TestRelay other({.mesh_key = mesh_key});
  TestRelay relay({.mesh_key = mesh_key, .configure = [&](config::Config& config) {
                     config.mesh_with = {other.as_mesh_peer(),
                                         {.host = "127.0.0.1:1", .dial_host = ""}};
                   }});
  ASSERT_TRUE(test::wait_until([&] {
    const auto status = relay.relay().status();
    return status->mesh.size() == 2 && status->mesh[1].is_up &&
           status->mesh[0].last_failure.find("refused") != std::string::npos;
  }));
  const auto status = relay.relay().status();
  EXPECT_FALSE(status->mesh[0].is_up);
  EXPECT_EQ(status->mesh[0].name, "127.0.0.1:1");
  EXPECT_EQ(status->mesh[1].key, other.relay().public_key().typed());
  const auto seen = other.relay().status();
  ASSERT_EQ(seen->clients.size(), 1U);
  EXPECT_TRUE(seen->clients[0].identity.is_mesh_peer);
}

TEST(RelayStatusTest, IsAnsweredWhileTheRelayStopsAndAfterwards) {
  auto relay = std::make_unique<TestRelay>(TestRelay::Options{.workers = 2});
  const auto client = relay->dial();
  ASSERT_TRUE(client);
  std::atomic<bool> over{false};
  std::thread asking([&] {
    while (!over.load()) static_cast<void>(relay->relay().status());
  });
  ASSERT_TRUE(client->ping(kPatience).has_value());
  relay->relay().stop();
  over = true;
  asking.join();
  EXPECT_EQ(relay->relay().status()->state, "stopping");
}

// --- A worker that does not answer

TEST(Survey, EndsAtTheDeadlineWithWhatIsThere) {
  server::Survey survey(3);
  survey.answer(1, {});
  survey.wait({false, true, false}, Clock::now() + kPatience);
  survey.wait({true, true, false}, Clock::now());
  EXPECT_FALSE(survey.has_answered(0));
  EXPECT_TRUE(survey.has_answered(1));
  auto parts = survey.take();
  EXPECT_FALSE(parts[0].has_value());
  EXPECT_TRUE(parts[1].has_value());
  // Whoever is late still has somebody to answer.
  survey.answer(0, {});
  EXPECT_TRUE(survey.has_answered(0));
}

}  // namespace
}  // namespace detour
