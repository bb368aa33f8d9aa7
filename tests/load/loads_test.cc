#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <utility>

#include "client/tls_stream.h"
#include "load/descriptors.h"
#include "load/login_load.h"
#include "load/relay_load.h"
#include "load/storm_load.h"
#include "support/test_relay.h"

/// The loads against a whole relay.
namespace detour::load {
namespace {

using std::chrono::milliseconds;

const ServerProcess kNobody(0);

/// A relay, and how to reach it.
struct LoadedRelay {
  explicit LoadedRelay(bool tls)
      : relay({.tls = tls}),
        target(Target::parse_loopback(fmt::format("127.0.0.1:{}", relay.port())).value()) {
    if (tls)
      context =
          client::TlsContext::create({.trust = {.kind = client::Trust::Kind::kAnyone}}).value();
  }
  [[nodiscard]] ConnectionSettings settings() const {
    return {.target = &target, .context = context ? &*context : nullptr};
  }

  test::TestRelay relay;
  Target target;
  std::optional<client::TlsContext> context;
};

RelayOptions short_traffic(const LoadedRelay& loaded) {
  return {.connection = loaded.settings(),
          .traffic = {.senders = 3, .receivers = 3, .window = 4},
          .warm_up = milliseconds(20),
          .duration = milliseconds(200),
          .loss_after = std::chrono::duration_cast<milliseconds>(test::kPatience)};
}

TEST(RelayLoad, DeliversOverTlsAndWithout) {
  for (const bool tls : {true, false}) {
    SCOPED_TRACE(tls ? "TLS" : "plain");
    const LoadedRelay loaded(tls);
    const auto report = run_relay(short_traffic(loaded), kNobody);
    ASSERT_TRUE(report) << report.error().text();
    EXPECT_GT((*report)["delivered_packets"], 0);
    EXPECT_EQ((*report)["lost_packets"], 0);
    EXPECT_EQ((*report)["corrupt_packets"], 0);
    EXPECT_EQ((*report)["latency_us"]["count"], (*report)["delivered_packets"]);
    EXPECT_EQ((*report)["tls"].get<std::string>().starts_with("TLSv1.3"), tls);
    EXPECT_FALSE(report->contains("stopped"));
  }
}

TEST(RelayLoad, ManyToOneAndOneToMany) {
  const LoadedRelay loaded(true);
  for (const auto& [senders, receivers] : {std::pair{20U, 1U}, std::pair{1U, 20U}}) {
    auto options = short_traffic(loaded);
    options.traffic.senders = senders;
    options.traffic.receivers = receivers;
    const auto report = run_relay(options, kNobody);
    ASSERT_TRUE(report) << report.error().text();
    EXPECT_GT((*report)["delivered_packets"], 0);
    EXPECT_EQ((*report)["corrupt_packets"], 0);
  }
}

TEST(RelayLoad, BystandersAreLoggedInWhileItRuns) {
  const LoadedRelay loaded(true);
  auto options = short_traffic(loaded);
  options.bystanders = 70;  // More than log in at a time.
  std::uint64_t clients_max = 0;
  options.watch = [&](const Progress&) {
    clients_max = std::max(clients_max, loaded.relay.metric("derp_current_connections"));
    return true;
  };
  const auto report = run_relay(options, kNobody);
  ASSERT_TRUE(report) << report.error().text();
  EXPECT_EQ(clients_max, 76U);
  EXPECT_EQ((*report)["bystanders"], 70);
}

TEST(RelayLoad, TheWatchSeesItGoOnAndEndsIt) {
  const LoadedRelay loaded(true);
  auto options = short_traffic(loaded);
  options.duration = std::chrono::hours(1);
  options.traffic.packets_per_second = 1000;
  Progress last;
  options.watch = [&](const Progress& progress) {
    last = progress;
    return progress.done < 50;
  };
  const auto report = run_relay(options, kNobody);
  ASSERT_TRUE(report) << report.error().text();
  EXPECT_EQ((*report)["stopped"], true);
  EXPECT_GE(last.done, 50U);
  EXPECT_EQ(last.bytes, last.done * 1400);
  EXPECT_GE((*report)["delivered_packets"], last.done);
  EXPECT_GT(last.seconds_whole, 3600.0);
}

TEST(RelayLoad, StoppedWhileLoggingInItStillReports) {
  const LoadedRelay loaded(true);
  auto options = short_traffic(loaded);
  options.watch = [](const Progress&) { return false; };
  const auto report = run_relay(options, kNobody);
  ASSERT_TRUE(report) << report.error().text();
  EXPECT_EQ((*report)["stopped"], true);
  EXPECT_EQ((*report)["delivered_packets"], 0);
}

TEST(RelayLoad, NobodyThereIsAFailure) {
  std::optional<LoadedRelay> loaded(true);
  const auto target = loaded->target;
  const auto context =
      client::TlsContext::create({.trust = {.kind = client::Trust::Kind::kAnyone}});
  ASSERT_TRUE(context);
  loaded.reset();
  RelayOptions options;
  options.connection = {.target = &target, .context = &*context};
  const auto report = run_relay(options, kNobody);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().layer, client::Layer::kTcp);
}

TEST(LoginLoad, CountsAsManyAsWereAskedFor) {
  const LoadedRelay loaded(true);
  const auto report =
      run_login({.connection = loaded.settings(), .concurrent = 3, .logins_max = 20}, kNobody);
  ASSERT_TRUE(report) << report.error().text();
  EXPECT_EQ((*report)["logins"], 20);
  EXPECT_EQ((*report)["login_us"]["count"], 20);
  EXPECT_GT((*report)["login_us"]["p50"], 0.0);
}

TEST(StormLoad, EverybodyComesBackWhenTheRelayDoes) {
  // Two relays in turn at one port: the second stands for the first one started again.
  std::optional<LoadedRelay> first(true);
  const std::uint16_t port = first->relay.port();
  const Target target = first->target;
  const auto context = std::move(*first->context);
  std::optional<test::TestRelay> second;
  const auto report =
      run_storm({.connection = {.target = &target, .context = &context},
                 .pairs = 20,
                 .time_max = std::chrono::duration_cast<milliseconds>(test::kPatience)},
                [&] {
                  first.reset();
                  second.emplace(test::TestRelay::Options{
                      .configure = [port](config::Config& config) { config.listen.port = port; }});
                });
  ASSERT_TRUE(report) << report.error().text();
  EXPECT_EQ((*report)["clients"], 40);
  EXPECT_EQ((*report)["connections_lost"], 40);
  EXPECT_GT((*report)["recovery_s"], 0.0);
  EXPECT_LE((*report)["first_login_s"], (*report)["recovery_s"]);
  EXPECT_EQ((*report)["pair_recovery_us"]["count"], 20);
}

TEST(StormLoad, SaysHowManyDidNotComeBack) {
  std::optional<LoadedRelay> loaded(true);
  const Target target = loaded->target;
  const auto context = std::move(*loaded->context);
  const auto report = run_storm({.connection = {.target = &target, .context = &context},
                                 .pairs = 2,
                                 .time_max = milliseconds(2000)},
                                [&] { loaded.reset(); });
  ASSERT_FALSE(report);
  EXPECT_NE(report.error().message.find("only 0 of 2 pairs relayed again"), std::string::npos)
      << report.error().text();
}

TEST(MakeRoomFor, SaysHowMuchIsMissing) {
  EXPECT_FALSE(make_room_for(10));
  const auto lacks = make_room_for(1'000'000'000'000);
  ASSERT_TRUE(lacks);
  EXPECT_NE(lacks->find("ulimit -n 1000000000032"), std::string::npos) << *lacks;
}

}  // namespace
}  // namespace detour::load
