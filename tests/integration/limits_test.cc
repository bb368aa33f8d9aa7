// What limits connections and clients, on a whole relay.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "support/frames.h"
#include "support/says.h"
#include "support/temp_folder.h"
#include "support/test_relay.h"

namespace detour::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// Whether a line of the log has this text in it.
bool was_logged(const TestRelay& relay, std::string_view text) {
  return std::ranges::any_of(relay.log().lines(),
                             [&](const std::string& line) { return line.contains(text); });
}

bool can_log_in(const TestRelay& relay) {
  const auto dialled = client::Client::dial(relay.dial_options(crypto::NodePrivate::generate()));
  return dialled.has_value();
}

TEST(Limits, ConnectionsInTotal) {
  TestRelay relay(
      {.workers = 2, .configure = [](config::Config& config) { config.connections_max = 3; }});
  std::vector<std::unique_ptr<client::Client>> clients;
  for (int i = 0; i < 3; ++i) clients.push_back(relay.dial());
  EXPECT_FALSE(can_log_in(relay));
  EXPECT_EQ(relay.metric(R"(detour_connections_refused_total{reason="total"})"), 1U);
  EXPECT_EQ(relay.metric("tls_listener_accepted_connections"), 3U);
  EXPECT_TRUE(was_logged(relay, "all 3 connections that --connections-max allows are open; raise"));

  clients.pop_back();
  EXPECT_TRUE(wait_until([&] { return can_log_in(relay); })) << "a place that is free is taken";
  // A changed limit holds for whoever comes next.
  config::Config changed = relay.config();
  changed.connections_max = 0;
  relay.relay().reload(changed);
  for (int i = 0; i < 5; ++i) clients.push_back(relay.dial());
}

TEST(Limits, ConnectionsOfOneAddress) {
  TestRelay relay({.workers = 2, .configure = [](config::Config& config) {
                     config.connections_per_address_max = 2;
                   }});
  std::vector<std::unique_ptr<client::Client>> clients;
  for (int i = 0; i < 2; ++i) clients.push_back(relay.dial());
  EXPECT_FALSE(can_log_in(relay));
  EXPECT_EQ(relay.metric(R"(detour_connections_refused_total{reason="address"})"), 1U);
  EXPECT_TRUE(
      was_logged(relay, "127.0.0.1 has all 2 connections that --connections-per-address-max"));
  clients.clear();
  EXPECT_TRUE(wait_until([&] { return can_log_in(relay); }));
}

TEST(Limits, RateOfAccepts) {
  TestRelay relay({.configure = [](config::Config& config) {
    config.accept_connections_per_second = 0.001;
    config.accept_connections_burst = 4;
  }});
  std::vector<std::unique_ptr<client::Client>> clients;
  for (int i = 0; i < 4; ++i) clients.push_back(relay.dial());
  EXPECT_FALSE(can_log_in(relay));
  EXPECT_EQ(relay.metric("tls_listener_accepted_connections"), 4U);
  EXPECT_EQ(relay.metric("tls_listener_rejected_connections"), 1U);
  EXPECT_TRUE(was_logged(relay, "-accept-connection-limit"));
  EXPECT_TRUE(clients.front()->ping(kPatience).has_value()) << "who is there stays";
}

/// A relay with a rate config file of this content.
class RateLimited : public testing::Test {
 protected:
  void start(const std::string& rate_config) {
    folder_.write("rate.json", rate_config);
    relay_ = std::make_unique<TestRelay>(
        TestRelay::Options{.workers = 2, .configure = [this](config::Config& config) {
                             config.rate_config_file = folder_.path("rate.json");
                           }});
  }
  void reload(const std::string& rate_config) {
    folder_.write("rate.json", rate_config);
    relay_->relay().reload(relay_->config());
  }
  [[nodiscard]] std::uint64_t waits() const {
    return relay_->metric("derp_rate_limit_per_client_waited");
  }

  TempFolder folder_;
  std::unique_ptr<TestRelay> relay_;
};

TEST_F(RateLimited, AFileThatIsGoneChangesNothingAndNoFileLiftsTheLimit) {
  constexpr std::string_view kRate = "derp_rate_limit_per_client_bytes_per_second";
  start(R"({"PerClientRateLimitBytesPerSec":5000})");
  ASSERT_TRUE(std::filesystem::remove(folder_.path("rate.json")));
  relay_->relay().reload(relay_->config());
  EXPECT_EQ(relay_->metric(kRate), 5000U);
  EXPECT_TRUE(was_logged(*relay_, "rate.json")) << "and said";
  EXPECT_TRUE(was_logged(*relay_, "the rates stay as they were"));

  config::Config changed = relay_->config();
  changed.rate_config_file.clear();
  relay_->relay().reload(changed);
  EXPECT_EQ(relay_->metric(kRate), 0U);
  EXPECT_TRUE(was_logged(*relay_, "none is set any more"));

  folder_.write("rate.json", R"({"PerClientRateLimitBytesPerSec":7000})");
  relay_->relay().reload(relay_->config());
  EXPECT_EQ(relay_->metric(kRate), 7000U) << "and set again";
}

TEST_F(RateLimited, AClientIsSlowedDownWithoutLossAndNobodyElseWaits) {
  start(R"({"PerClientRateLimitBytesPerSec":1000000,"PerClientRateBurstBytes":65568})");
  const auto fast = relay_->dial();
  const auto slow = relay_->dial();
  const auto receiver = relay_->dial();
  EXPECT_EQ(relay_->metric("derp_rate_limit_per_client_bytes_per_second"), 1'000'000U);
  EXPECT_EQ(relay_->metric("derp_rate_limit_per_client_burst_bytes"), 65'568U);

  // 400 packets of 1024 bytes are 1056 each as the rate counts them: 422,400, of which 65,568 pass
  // at once and the rest takes 0.357 s.
  constexpr int kPackets = 400;
  const Bytes packet = plain_packet(1024);
  const TimePoint begin = Clock::now();
  Bytes flood;
  for (int i = 0; i < kPackets; ++i) {
    const Bytes one = send_packet_frame(receiver->public_key(), packet);
    flood.insert(flood.end(), one.begin(), one.end());
  }
  ASSERT_TRUE(slow->send_raw(flood, kPatience));
  std::vector<Duration> trips;
  for (int i = 0; i < kPackets; ++i) {
    ASSERT_TRUE(receiver->receive_packet(kPatience).value().has_value()) << i;
    if (i % 50 != 0) continue;
    const auto trip = fast->ping(kPatience);
    ASSERT_TRUE(trip.has_value());
    trips.push_back(*trip);
  }
  const Duration took = Clock::now() - begin;
  EXPECT_GE(took, milliseconds(350));
  std::ranges::sort(trips);
  EXPECT_LT(trips[trips.size() / 2], milliseconds(300)) << "another client waited for the slow one";
  EXPECT_GT(waits(), 0U);
  EXPECT_EQ(relay_->dropped(), 0U);
}

TEST_F(RateLimited, WhoStaysWithinTheBurstNeverWaits) {
  start(R"({"PerClientRateLimitBytesPerSec":1,"PerClientRateBurstBytes":70000})");
  const auto sender = relay_->dial();
  const auto receiver = relay_->dial();
  // 69 frames of 1000 bytes payload, and the pings: below 70,000.
  for (int i = 0; i < 69; ++i)
    ASSERT_TRUE(sender->send(receiver->public_key(), plain_packet(1000 - 32)));
  ASSERT_TRUE(sender->ping(kPatience).has_value());
  EXPECT_EQ(waits(), 0U);
  // One more packet is beyond it, and would take minutes.
  ASSERT_TRUE(sender->send(receiver->public_key(), plain_packet(1000 - 32)));
  EXPECT_TRUE(wait_until([&] { return waits() == 1; }));
}

TEST_F(RateLimited, AReloadFreesWhoWaitsAndABadFileChangesNothing) {
  start(R"({"PerClientRateLimitBytesPerSec":1})");
  const auto sender = relay_->dial();
  const auto receiver = relay_->dial();
  ASSERT_TRUE(sender->send(receiver->public_key(), plain_packet(60'000)));
  ASSERT_TRUE(receiver->receive_packet(kPatience).value().has_value());
  ASSERT_TRUE(sender->send(receiver->public_key(), plain_packet(60'000)));
  ASSERT_TRUE(wait_until([&] { return waits() == 1; }));

  reload("not JSON");
  EXPECT_TRUE(was_logged(*relay_, "is not valid JSON"));
  EXPECT_EQ(relay_->metric("derp_rate_limit_per_client_bytes_per_second"), 1U);

  reload("{}");
  ASSERT_TRUE(receiver->receive_packet(kPatience).value().has_value());
  EXPECT_EQ(relay_->metric("derp_rate_limit_per_client_bytes_per_second"), 0U);
  EXPECT_TRUE(sender->ping(kPatience).has_value());
}

TEST_F(RateLimited, WhoClosesWhileItWaitsIsLetGo) {
  start(R"({"PerClientRateLimitBytesPerSec":1})");
  auto sender = relay_->dial();
  const auto receiver = relay_->dial();
  for (int i = 0; i < 2; ++i)
    ASSERT_TRUE(sender->send(receiver->public_key(), plain_packet(60'000)));
  ASSERT_TRUE(wait_until([&] { return waits() == 1; }));
  sender->abort();
  EXPECT_TRUE(wait_until([&] { return relay_->metric("derp_current_connections") == 1; }));
}

TEST(Limits, ABadRateConfigIsFatalAtTheStart) {
  const TempFolder folder;
  config::Config config;
  config.listen = {.host = "127.0.0.1", .port = 0};
  config.tls = false;
  config.stun = false;
  config.rate_config_file = folder.write("rate.json", "[]");
  CollectedLog log;
  const auto started =
      server::Relay::start({.config = config, .key = crypto::NodePrivate::generate(), .log = &log});
  ASSERT_FALSE(started.has_value());
  EXPECT_NE(started.error().find("rate.json: is not a JSON object"), std::string::npos);
}

}  // namespace
}  // namespace detour::test
