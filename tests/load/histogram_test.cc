#include "load/histogram.h"

#include <gtest/gtest.h>

namespace detour::load {
namespace {

TEST(Histogram, HasNothingToSayAtFirst) {
  const Histogram histogram;
  EXPECT_EQ(histogram.count(), 0U);
  EXPECT_EQ(histogram.quantile_ns(0.5), 0U);
  EXPECT_EQ(histogram.max_ns(), 0U);
}

TEST(Histogram, QuantilesAreWithinTwoPercentAboveTheTruth) {
  Histogram histogram;
  for (std::uint64_t i = 1; i <= 100'000; ++i) histogram.add(i * 1000);
  for (const double fraction : {0.01, 0.5, 0.9, 0.99, 0.999}) {
    const double truth = fraction * 100'000 * 1000;
    EXPECT_GE(static_cast<double>(histogram.quantile_ns(fraction)), truth) << fraction;
    EXPECT_LE(static_cast<double>(histogram.quantile_ns(fraction)), truth * 1.02) << fraction;
  }
  EXPECT_EQ(histogram.quantile_ns(1.0), 100'000'000U);
}

TEST(Histogram, SmallDurationsAreExact) {
  Histogram histogram;
  for (const std::uint64_t value : {7U, 7U, 9U}) histogram.add(value);
  EXPECT_EQ(histogram.quantile_ns(0.5), 7U);
  EXPECT_EQ(histogram.quantile_ns(0.99), 9U);
}

TEST(Histogram, WhatIsBeyondItsRangeCountsAsTheLastOfIt) {
  Histogram histogram;
  constexpr std::uint64_t kHour = 3'600'000'000'000;
  histogram.add(kHour);
  EXPECT_EQ(histogram.count(), 1U);
  EXPECT_EQ(histogram.quantile_ns(0.5), (1ULL << 40U) - 1);
  EXPECT_EQ(histogram.max_ns(), kHour);
}

TEST(Histogram, MergingAddsUp) {
  Histogram one;
  Histogram other;
  one.add(10);
  other.add(20);
  other.add(30);
  one.merge(other);
  EXPECT_EQ(one.count(), 3U);
  EXPECT_EQ(one.max_ns(), 30U);
  EXPECT_EQ(one.quantile_ns(0.5), 20U);
}

}  // namespace
}  // namespace detour::load
