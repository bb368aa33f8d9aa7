#include "load/summary.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace detour::load {
namespace {

Report round_of(double gbit, double p50_us, int lost = 0) {
  return {{"relay",
           {{"gbit_per_s", gbit},
            {"delivered_packets", 1000},
            {"lost_packets", lost},
            {"lost_percent", 100.0 * lost / (1000.0 + lost)},
            {"corrupt_packets", 0},
            {"offered_packets_per_s", 500.0},
            {"seconds", 2.0},
            {"latency_us", {{"p50", p50_us}}}}}};
}

TEST(Median, IsOverTheRoundsThatHaveTheNumber) {
  const ServerResult odd{
      .name = "a", .rounds = {round_of(3, 1), round_of(1, 1), round_of(2, 1), Report::object()}};
  EXPECT_EQ(median(odd, "relay.gbit_per_s"), 2.0);
  const ServerResult even{.name = "a", .rounds = {round_of(3, 1), round_of(1, 1)}};
  EXPECT_EQ(median(even, "relay.gbit_per_s"), 2.0);
  EXPECT_EQ(median(even, "relay.latency_us.p50"), 1.0);
  EXPECT_FALSE(median(even, "relay.latency_us"));
  EXPECT_FALSE(median(even, "relay.latency_us.p50.more"));
  EXPECT_FALSE(median({.name = "none"}, "relay.gbit_per_s"));
}

TEST(Table, HasALineForEachNumberThatIsThere) {
  const std::string text = table_text({{.name = "https://a:1", .rounds = {round_of(0.05, 250)}}});
  EXPECT_NE(text.find("throughput, Mbit/s             50.00\n"), std::string::npos) << text;
  EXPECT_NE(text.find("one way p50, ms                0.250\n"), std::string::npos) << text;
  EXPECT_EQ(text.find("ratio"), std::string::npos) << text;
  EXPECT_EQ(text.find("STUN"), std::string::npos) << text;
  EXPECT_EQ(text.find("login"), std::string::npos) << text;
}

TEST(Table, HasTheRatioOfTheFirstToTheSecond) {
  const std::vector<ServerResult> servers = {
      {.name = "https://a", .rounds = {round_of(0.06, 100)}},
      {.name = "https://b", .rounds = {round_of(0.03, 400)}}};
  const std::string text = table_text(servers);
  EXPECT_NE(text.find("https://a   https://b   ratio\n"), std::string::npos) << text;
  EXPECT_NE(text.find("     60.00       30.00    2.00\n"), std::string::npos) << text;
  EXPECT_NE(text.find("     0.100       0.400    0.25\n"), std::string::npos) << text;
  // Nothing divided by nothing is no ratio.
  EXPECT_NE(text.find("     0.000       0.000\n"), std::string::npos) << text;
}

TEST(Warnings, ThereAreNoneWhenAllIsWell) {
  EXPECT_TRUE(warnings_of({{.name = "a", .rounds = {round_of(1, 1), round_of(1, 1)}}}).empty());
}

TEST(Warnings, OnePacketLostInAnyRoundIsOne) {
  const auto warnings = warnings_of({{.name = "a", .rounds = {round_of(1, 1), round_of(1, 1, 1)}}});
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_EQ(warnings[0], "a: 1 of 2001 packets were lost (0.05 %)");
}

TEST(Warnings, DamageIsOne) {
  auto round = round_of(1, 1);
  round["relay"]["corrupt_packets"] = 3;
  const auto warnings = warnings_of({{.name = "a", .rounds = {round}}});
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_NE(warnings[0].find("3 packets came that were not as they were sent"), std::string::npos);
}

TEST(Warnings, APaceThatIsNotKeptIsOne) {
  auto round = round_of(1, 1);  // 1000 packets are due.
  round["relay"]["delivered_packets"] = 950;
  EXPECT_TRUE(warnings_of({{.name = "a", .rounds = {round}}}).empty());
  round["relay"]["delivered_packets"] = 949;
  const auto warnings = warnings_of({{.name = "a", .rounds = {round}}});
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_NE(warnings[0].find("only 949 of 1000"), std::string::npos) << warnings[0];
  // Without a rate there is no pace to keep.
  round["relay"]["offered_packets_per_s"] = 0.0;
  EXPECT_TRUE(warnings_of({{.name = "a", .rounds = {round}}}).empty());
}

TEST(Warnings, WhatFailedBesideTheTrafficIsOne) {
  auto round = round_of(1, 1);
  round["stun"] = {{"error", "address: no STUN answer came from there"}};
  round["login"] = {{"logins_per_s", 5.0}};
  const auto warnings = warnings_of({{.name = "a", .rounds = {round}}});
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_EQ(warnings[0], "a: stun: address: no STUN answer came from there");
}

TEST(Warnings, StunRequestsWithoutAnswerAreOne) {
  auto round = round_of(1, 1);
  round["stun"] = {{"answers", 98}, {"lost", 2}};
  const auto warnings = warnings_of({{.name = "a", .rounds = {round}}});
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_EQ(warnings[0], "a: 2 of 100 STUN requests had no answer");
}

TEST(Warnings, AnEarlyEndIsOneForAllTogether) {
  auto round = round_of(1, 1);
  round["relay"]["stopped"] = true;
  const auto warnings =
      warnings_of({{.name = "a", .rounds = {round}}, {.name = "b", .rounds = {round}}});
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_NE(warnings[0].find("stopped before the end"), std::string::npos);
}

TEST(NothingArrived, IsWhenAServerHasLostEverything) {
  auto lost = round_of(0, 0, 5);
  lost["relay"]["delivered_packets"] = 0;
  const ServerResult bad{.name = "bad", .rounds = {lost}};
  const ServerResult good{.name = "good", .rounds = {round_of(1, 1, 5)}};
  EXPECT_TRUE(nothing_arrived({good, bad}));
  EXPECT_FALSE(nothing_arrived({good}));
  EXPECT_FALSE(nothing_arrived({{.name = "some", .rounds = {lost, round_of(1, 1)}}}));
  EXPECT_FALSE(nothing_arrived({{.name = "stopped at once"}}));
}

TEST(ResultJson, HasPlanMediansRoundsAndRatios) {
  const std::vector<ServerResult> servers = {
      {.name = "a", .rounds = {round_of(2, 1), round_of(4, 1, 1)}},
      {.name = "b", .rounds = {round_of(6, 1)}}};
  const Report json = result_json({.pairs = 7}, servers);
  EXPECT_EQ(json["ok"], false);
  EXPECT_EQ(json["warnings"].size(), 1U);
  EXPECT_EQ(json["plan"]["pairs"], 7);
  ASSERT_EQ(json["servers"].size(), 2U);
  EXPECT_EQ(json["servers"][0]["medians"]["relay.gbit_per_s"], 3.0);
  EXPECT_EQ(json["servers"][0]["rounds"].size(), 2U);
  EXPECT_EQ(json["ratios"]["relay.gbit_per_s"], 0.5);
  EXPECT_FALSE(result_json({}, {servers[0]}).contains("ratios"));
}

}  // namespace
}  // namespace detour::load
