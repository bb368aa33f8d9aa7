#include "load/plan.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace detour::load {
namespace {

TEST(ParseRate, TakesNumbersWithUnits) {
  EXPECT_EQ(parse_rate("50mbit"), 50e6);
  EXPECT_EQ(parse_rate("2.5gbit"), 2.5e9);
  EXPECT_EQ(parse_rate("800kbit"), 800e3);
  EXPECT_EQ(parse_rate("9000bit"), 9000.0);
  EXPECT_EQ(parse_rate("max"), 0.0);
}

TEST(ParseRate, SaysWhatToWriteInsteadOfAnythingElse) {
  for (const std::string_view text : {"", "50", "mbit", "0mbit", "-5mbit", "50 mbit", "50mbits",
                                      "50MB", "infmbit", "nanmbit", "1e999mbit", "maximum"}) {
    const auto rate = parse_rate(text);
    ASSERT_FALSE(rate) << text;
    EXPECT_NE(rate.error().find("50mbit"), std::string::npos) << rate.error();
    EXPECT_NE(rate.error().find("--rate " + std::string(text)), std::string::npos) << rate.error();
  }
}

TEST(RefusalOf, EachLimitHasTwoSides) {
  struct Case {
    std::string_view option;
    Plan at_polite;
    Plan beyond_polite;
    Plan at_heavy;
    Plan beyond_heavy;
  };
  const Case cases[] = {
      {"--pairs", {.pairs = 100}, {.pairs = 101}, {.pairs = 5000}, {.pairs = 5001}},
      {"--rate",
       {.bits_per_second = 200e6},
       {.bits_per_second = 201e6},
       {.bits_per_second = 100e9},
       {.bits_per_second = 101e9}},
      {"--seconds", {.seconds = 60}, {.seconds = 60.5}, {.seconds = 600}, {.seconds = 600.5}},
      {"--rounds", {.rounds = 10}, {.rounds = 11}, {.rounds = 100}, {.rounds = 101}},
      {"--logins", {.logins = 500}, {.logins = 501}, {.logins = 1'000'000}, {.logins = 1'000'001}},
  };
  for (const auto& row : cases) {
    SCOPED_TRACE(row.option);
    EXPECT_FALSE(refusal_of(row.at_polite, false));
    EXPECT_FALSE(refusal_of(row.beyond_polite, true));
    EXPECT_FALSE(refusal_of(row.at_heavy, true));
    const auto polite = refusal_of(row.beyond_polite, false);
    ASSERT_TRUE(polite);
    EXPECT_NE(polite->find(row.option), std::string::npos) << *polite;
    EXPECT_NE(polite->find("--heavy"), std::string::npos) << *polite;
    const auto heavy = refusal_of(row.beyond_heavy, true);
    ASSERT_TRUE(heavy);
    EXPECT_NE(heavy->find(row.option), std::string::npos) << *heavy;
    EXPECT_EQ(heavy->find("--heavy"), std::string::npos) << *heavy;
  }
}

TEST(RefusalOf, WithoutARateIsHeavy) {
  EXPECT_TRUE(refusal_of({.bits_per_second = 0}, false));
  EXPECT_FALSE(refusal_of({.bits_per_second = 0}, true));
}

TEST(Describe, SaysHowMuchIsSentForHowLong) {
  const std::string one = describe({});
  EXPECT_NE(one.find("10 pairs"), std::string::npos) << one;
  EXPECT_NE(one.find("50 Mbit/s"), std::string::npos) << one;
  EXPECT_NE(one.find("for 11 s"), std::string::npos) << one;
  EXPECT_NE(one.find("68.75 MB"), std::string::npos) << one;
  EXPECT_EQ(one.find("STUN"), std::string::npos) << one;
  EXPECT_EQ(one.find("logins"), std::string::npos) << one;

  const std::string two = describe(
      {.servers = 2, .bits_per_second = 0, .seconds = 4, .rounds = 3, .logins = 20, .stun = true});
  EXPECT_NE(two.find("for 30 s (3 rounds of each relay)"), std::string::npos) << two;
  EXPECT_NE(two.find("as fast as it goes"), std::string::npos) << two;
  EXPECT_NE(two.find("20 logins"), std::string::npos) << two;
  EXPECT_NE(two.find("100 STUN requests"), std::string::npos) << two;
}

TEST(TrafficOf, APacedPairMayHaveTwoSecondsOfPacketsOnTheirWay) {
  const auto paced = traffic_of({.pairs = 10, .bits_per_second = 50e6, .packet_bytes = 1250});
  EXPECT_EQ(paced.senders, 10U);
  EXPECT_EQ(paced.receivers, 10U);
  EXPECT_EQ(paced.packets_per_second, 5000.0);
  EXPECT_EQ(paced.window, 1000U);
  EXPECT_EQ(traffic_of({.pairs = 100, .bits_per_second = 1e3}).window, 64U);
  EXPECT_EQ(traffic_of({.pairs = 1, .bits_per_second = 100e9}).window, 65536U);
  const auto unpaced = traffic_of({.bits_per_second = 0, .window = 7});
  EXPECT_EQ(unpaced.packets_per_second, 0.0);
  EXPECT_EQ(unpaced.window, 7U);
}

}  // namespace
}  // namespace detour::load
