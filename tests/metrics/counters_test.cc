#include "metrics/counters.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace detour::metrics {
namespace {

TEST(Histogram, CountsAValueInTheFirstBucketThatHoldsIt) {
  static constexpr std::array<std::uint64_t, 3> kBounds = {0, 5, 10};
  Histogram<3> histogram(kBounds);
  for (const std::uint64_t value : {0U, 1U, 5U, 6U, 10U, 11U, 1000U}) histogram.observe(value);
  EXPECT_EQ(histogram.bucket(0), 1U);
  EXPECT_EQ(histogram.bucket(1), 2U);
  EXPECT_EQ(histogram.bucket(2), 2U);
  EXPECT_EQ(histogram.bucket(3), 2U);
  EXPECT_EQ(histogram.sum(), 1033U);
}

TEST(Labels, AreDistinctAndKnown) {
  std::set<std::string_view> labels;
  for (std::size_t i = 0; i < kDropReasonCount; ++i) {
    labels.insert(label(static_cast<DropReason>(i)));
  }
  EXPECT_EQ(labels.size(), kDropReasonCount);
  EXPECT_FALSE(labels.contains("unknown"));
  EXPECT_EQ(label(PacketKind::kDisco), "disco");
  EXPECT_EQ(label(PacketKind::kOther), "other");
}

TEST(WorkerCounters, CountEachDropByReasonAndKind) {
  WorkerCounters counters;
  counters.drop(DropReason::kQueueHead, PacketKind::kOther, 100);
  counters.drop(DropReason::kQueueHead, PacketKind::kOther, 50);
  const auto& cell = counters.dropped[static_cast<std::size_t>(DropReason::kQueueHead)]
                                     [static_cast<std::size_t>(PacketKind::kOther)];
  EXPECT_EQ(cell.packets.get(), 2U);
  EXPECT_EQ(cell.bytes.get(), 150U);
}

}  // namespace
}  // namespace detour::metrics
