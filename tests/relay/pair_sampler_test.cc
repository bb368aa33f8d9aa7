#include "relay/pair_sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>

#include "support/frames.h"

namespace detour::relay {
namespace {

using std::chrono::seconds;
using test::numbered_key;

constexpr TimePoint kStart{seconds(1000)};

struct Talk {
  std::uint64_t packets = 0;
  std::uint64_t bytes = 0;
};
using Talks = std::map<std::pair<crypto::NodePublic, crypto::NodePublic>, Talk>;

Talks talks(PairSampler& sampler, TimePoint now) {
  Talks all;
  for (const auto& pair : sampler.report(now).pairs) {
    Talk& talk = all[{pair.source, pair.destination}];
    talk.packets += pair.packets;
    talk.bytes += pair.bytes;
  }
  return all;
}

TEST(PairSampler, SeesEveryPacketOfAQuietWorker) {
  PairSampler sampler;
  for (std::uint32_t i = 0; i < 30; ++i)
    sampler.note(numbered_key(i % 3), numbered_key(9), 100 + i % 3, kStart);
  sampler.note(numbered_key(9), numbered_key(0), 0, kStart);
  const Talks all = talks(sampler, kStart + seconds(1));
  ASSERT_EQ(all.size(), 4U);
  for (std::uint32_t i = 0; i < 3; ++i) {
    const Talk& talk = all.at({numbered_key(i), numbered_key(9)});
    EXPECT_EQ(talk.packets, 10U);
    EXPECT_EQ(talk.bytes, 10 * (100 + i));
  }
  EXPECT_EQ(all.at({numbered_key(9), numbered_key(0)}).packets, 1U) << "each way is a pair";
}

TEST(PairSampler, SharesTheBytesOfABusyWorkerOutAsTheyWere) {
  PairSampler sampler;
  // 900,000 packets, nine of ten from the first pair: far more than are looked at.
  constexpr std::uint32_t kPackets = 900'000;
  for (std::uint32_t i = 0; i < kPackets; ++i)
    sampler.note(numbered_key(i % 10 == 0 ? 2 : 1), numbered_key(3), 1000, kStart);
  const Talks all = talks(sampler, kStart + seconds(1));
  ASSERT_EQ(all.size(), 2U);
  const auto often = static_cast<double>(all.at({numbered_key(1), numbered_key(3)}).bytes);
  const auto seldom = static_cast<double>(all.at({numbered_key(2), numbered_key(3)}).bytes);
  EXPECT_NEAR(often, 810e6, 25e6);
  EXPECT_NEAR(seldom, 90e6, 25e6);
  EXPECT_GT(often + seldom, 880e6) << "no byte is lost, but for those behind the last sample";
  EXPECT_LE(often + seldom, 900e6);
}

TEST(PairSampler, KeepsTheFrequentAmongMoreThanItHolds) {
  PairSampler sampler;
  // One pair in every second packet, and each other packet from another of 20,000.
  for (std::uint32_t i = 0; i < 40'000; ++i)
    sampler.note(numbered_key(i % 2 == 0 ? 1 : 100 + i), numbered_key(2), 1000, kStart);
  const auto report = sampler.report(kStart);
  EXPECT_LE(report.pairs.size(), 2 * PairSampler::kPairsMax);
  const auto largest = std::ranges::max_element(report.pairs, {}, &PairSampler::Pair::bytes);
  ASSERT_NE(largest, report.pairs.end());
  EXPECT_EQ(largest->source, numbered_key(1));
  EXPECT_GT(largest->bytes, 10'000'000U);
  EXPECT_LE(largest->bytes, 24'000'000U);
}

TEST(PairSampler, ReportsTheLastWindowAndThisOne) {
  PairSampler sampler;
  const auto from = [&](std::uint32_t number, TimePoint now) {
    sampler.note(numbered_key(number), numbered_key(9), 10, now);
  };
  from(1, kStart);
  from(2, kStart + PairSampler::kWindow);
  EXPECT_EQ(talks(sampler, kStart + seconds(15)).size(), 2U);
  EXPECT_EQ(sampler.report(kStart + seconds(15)).covers, seconds(15));

  from(3, kStart + 2 * PairSampler::kWindow);
  const Talks later = talks(sampler, kStart + seconds(25));
  EXPECT_EQ(later.size(), 2U);
  EXPECT_FALSE(later.contains({numbered_key(1), numbered_key(9)}));
  EXPECT_EQ(sampler.report(kStart + seconds(25)).covers, seconds(15));

  EXPECT_TRUE(talks(sampler, kStart + seconds(60)).empty()) << "nothing was said for a while";
}

TEST(PairSampler, LooksCloserAgainWhenItGetsQuiet) {
  PairSampler sampler;
  for (std::uint32_t i = 0; i < 100'000; ++i)
    sampler.note(numbered_key(1), numbered_key(2), 1000, kStart);
  TimePoint now = kStart;
  for (int window = 0; window < 40; ++window) {
    now += PairSampler::kWindow;
    // A sample has to come for the window to be noticed.
    for (int i = 0; i < 100; ++i) sampler.note(numbered_key(3), numbered_key(4), 1000, now);
  }
  now += PairSampler::kWindow;
  static_cast<void>(sampler.report(now));
  sampler.note(numbered_key(5), numbered_key(6), 1, now);
  sampler.note(numbered_key(7), numbered_key(8), 1, now);
  const Talks all = talks(sampler, now);
  EXPECT_TRUE(all.contains({numbered_key(7), numbered_key(8)}));
}

}  // namespace
}  // namespace detour::relay
