#include "base/token_bucket.h"

#include <gtest/gtest.h>

namespace detour {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(TokenBucket, StartsFullAndRefusesBeyondTheBurst) {
  TokenBucket bucket(/*per_second=*/1, /*burst=*/3);
  const TimePoint now = TimePoint{} + seconds(10);
  EXPECT_TRUE(bucket.take(now));
  EXPECT_TRUE(bucket.take(now));
  EXPECT_TRUE(bucket.take(now));
  EXPECT_FALSE(bucket.take(now));
}

TEST(TokenBucket, RefillsWithTimeButNeverAboveTheBurst) {
  TokenBucket bucket(1, 3);
  TimePoint now = TimePoint{} + seconds(10);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(bucket.take(now));
  EXPECT_FALSE(bucket.take(now + milliseconds(900)));
  EXPECT_TRUE(bucket.take(now + milliseconds(1000)));

  now += seconds(3600);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(bucket.take(now));
  EXPECT_FALSE(bucket.take(now));
}

}  // namespace
}  // namespace detour
