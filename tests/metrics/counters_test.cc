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

TEST(TcpRttBucket, HoldsTheBoundItselfAndNothingAbove) {
  using std::chrono::microseconds;
  struct Case {
    microseconds rtt;
    std::string_view label;
  };
  constexpr Case kCases[] = {
      {microseconds(0), "10ms"},       {microseconds(10000), "10ms"},
      {microseconds(10001), "20ms"},   {microseconds(20000), "20ms"},
      {microseconds(20001), "50ms"},   {microseconds(50000), "50ms"},
      {microseconds(50001), "100ms"},  {microseconds(100000), "100ms"},
      {microseconds(100001), "150ms"}, {microseconds(150000), "150ms"},
      {microseconds(150001), "250ms"}, {microseconds(250000), "250ms"},
      {microseconds(250001), "500ms"}, {microseconds(500000), "500ms"},
      {microseconds(500001), "inf"},   {microseconds(90000000), "inf"},
  };
  for (const auto& [rtt, expected] : kCases)
    EXPECT_EQ(label(tcp_rtt_bucket(rtt)), expected) << rtt.count();
  EXPECT_EQ(label(TcpRtt::kNonTcp), "non-tcp");
  EXPECT_EQ(label(TcpRtt::kError), "error");
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
