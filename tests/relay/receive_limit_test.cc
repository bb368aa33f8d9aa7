#include "relay/receive_limit.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <span>

#include "relay/frame_splitter.h"
#include "support/frames.h"

namespace detour::relay {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr TimePoint kStart = TimePoint(seconds(1000));
constexpr std::uint32_t kMin = ReceiveRate::kBurstMin;

TEST(ReceiveRate, AppliesNothingWithoutARateAndNoBurstBelowTheLargestFrame) {
  struct Case {
    const char* name;
    ReceiveRate asked;
    ReceiveRate applied;
  };
  const Case cases[] = {
      {"nothing", {0, 0}, {0, 0}},
      {"a burst without a rate", {0, 1'000'000}, {0, 0}},
      {"no burst", {1000, 0}, {1000, kMin}},
      {"one below the smallest burst", {1000, kMin - 1}, {1000, kMin}},
      {"the smallest burst", {1000, kMin}, {1000, kMin}},
      {"one above the smallest burst", {1000, kMin + 1}, {1000, kMin + 1}},
  };
  for (const auto& [name, asked, applied] : cases) {
    SCOPED_TRACE(name);
    EXPECT_EQ(ReceiveRate::applied(asked), applied);
  }
}

TEST(ReceiveLimit, LetsTheBurstThroughAtOnceAndWaitsForTheFirstByteBeyondIt) {
  ReceiveLimit limit({.bytes_per_second = 1000, .burst_bytes = 100'000});
  EXPECT_EQ(limit.charge(50'000, kStart), kStart);
  EXPECT_EQ(limit.charge(50'000, kStart), kStart);
  EXPECT_EQ(limit.charge(1, kStart), kStart + milliseconds(1));
  EXPECT_EQ(limit.charge(500, kStart), kStart + milliseconds(501));
}

TEST(ReceiveLimit, FillsWithTimeUpToTheBurst) {
  ReceiveLimit limit({.bytes_per_second = 1000, .burst_bytes = 70'000});
  EXPECT_EQ(limit.charge(65'000, kStart), kStart);
  EXPECT_EQ(limit.charge(5'000, kStart), kStart);
  EXPECT_EQ(limit.charge(2'000, kStart + seconds(2)), kStart + seconds(2));
  const TimePoint later = kStart + seconds(3600);
  EXPECT_EQ(limit.charge(65'000, later), later);
  EXPECT_EQ(limit.charge(5'000, later), later);
  EXPECT_EQ(limit.charge(1'000, later), later + seconds(1));
}

TEST(ReceiveLimit, ChargesAFrameAtMostAsMuchAsTheLargestRelayedOne) {
  ReceiveLimit limit({.bytes_per_second = 1000, .burst_bytes = kMin});
  EXPECT_EQ(limit.charge(0xffff'ffff, kStart), kStart);
  EXPECT_EQ(limit.charge(1000, kStart), kStart + seconds(1));
}

TEST(ReceiveLimit, ReachesAHighRateAlthoughItsTimersAreCoarse) {
  // 100 MB/s with the smallest burst, looked after every 32 ms only.
  constexpr std::uint64_t kRate = 100'000'000;
  ReceiveLimit limit({.bytes_per_second = kRate, .burst_bytes = kMin});
  std::uint64_t passed = 0;
  TimePoint ready_at = kStart;
  for (TimePoint now = kStart; now < kStart + seconds(2); now += milliseconds(32)) {
    while (ready_at <= now) {
      passed += 1000;
      ready_at = limit.charge(1000, now);
    }
  }
  EXPECT_GT(passed, 2 * kRate * 95 / 100);
  EXPECT_LT(passed, 2 * kRate * 105 / 100);
}

/// Frames of 40,000 bytes payload: one fits into the smallest burst, two do not.
test::Bytes two_frames() {
  const test::Bytes one = test::frame(derp::FrameType::kSendPacket, test::Bytes(40'000, 7));
  return test::concat({one, one});
}

TEST(FrameSplitter, WithAReceiveRateHoldsAFrameUntilItIsPaid) {
  FrameSplitter splitter(false);
  splitter.set_receive_rate({.bytes_per_second = 1000, .burst_bytes = kMin});
  const test::Bytes bytes = two_frames();
  std::span<const std::uint8_t> input(bytes);

  ASSERT_TRUE(splitter.next(input, kStart)->has_value());
  EXPECT_FALSE(splitter.next(input, kStart)->has_value());
  const TimePoint due = kStart + milliseconds(80'000 - kMin);
  ASSERT_EQ(splitter.waits_until(), due);
  EXPECT_EQ(splitter.headers_read(), 1U) << "a frame that waits was not spoken yet";
  EXPECT_FALSE(splitter.next(input, due - milliseconds(1))->has_value());
  EXPECT_EQ(splitter.waits_until(), due) << "it pays once";
  ASSERT_TRUE(splitter.next(input, due)->has_value());
  EXPECT_FALSE(splitter.waits_until());
  EXPECT_TRUE(input.empty());
}

TEST(FrameSplitter, PaysForAPartialFrameWhenItsHeaderComesAndOnlyThen) {
  FrameSplitter splitter(false);
  splitter.set_receive_rate({.bytes_per_second = 1000, .burst_bytes = kMin});
  const test::Bytes bytes = two_frames();
  const std::span<const std::uint8_t> all(bytes);
  for (std::size_t size = derp::kFrameHeaderSize; size < all.size() / 2; size += 1000) {
    auto input = all.first(size);
    EXPECT_FALSE(splitter.next(input, kStart)->has_value());
    EXPECT_FALSE(splitter.waits_until());
  }
  auto input = all;
  EXPECT_TRUE(splitter.next(input, kStart)->has_value());
}

TEST(FrameSplitter, ChargesSkippedFramesToo) {
  FrameSplitter splitter(false);
  splitter.set_receive_rate({.bytes_per_second = 1000, .burst_bytes = kMin});
  const test::Bytes unknown =
      test::frame(static_cast<derp::FrameType>(0x7f), test::Bytes(40'000, 7));
  const test::Bytes bytes = test::concat({unknown, unknown});
  std::span<const std::uint8_t> input(bytes);
  EXPECT_FALSE(splitter.next(input, kStart)->has_value());
  EXPECT_TRUE(splitter.waits_until());
  EXPECT_EQ(input.size(), unknown.size());
}

TEST(FrameSplitter, ANewRateEndsTheWaitAndBeginsWithAFullBucket) {
  for (const ReceiveRate rate : {ReceiveRate{}, ReceiveRate{1000, kMin}}) {
    FrameSplitter splitter(false);
    splitter.set_receive_rate({.bytes_per_second = 1, .burst_bytes = kMin});
    const test::Bytes bytes = two_frames();
    std::span<const std::uint8_t> input(bytes);
    ASSERT_TRUE(splitter.next(input, kStart)->has_value());
    ASSERT_FALSE(splitter.next(input, kStart)->has_value());
    splitter.set_receive_rate(rate);
    EXPECT_FALSE(splitter.waits_until());
    EXPECT_TRUE(splitter.next(input, kStart)->has_value()) << "it has paid already";
    std::span<const std::uint8_t> more(bytes);
    EXPECT_TRUE(splitter.next(more, kStart)->has_value()) << "the bucket is full";
    EXPECT_EQ(splitter.next(more, kStart)->has_value(), rate.bytes_per_second == 0);
  }
}

}  // namespace
}  // namespace detour::relay
