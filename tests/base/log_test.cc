#include "base/log.h"

#include <gtest/gtest.h>

namespace detour {
namespace {

using std::chrono::seconds;

TEST(LogGate, LetsTheBurstThroughAndThenOneLinePerInterval) {
  LogGate gate(/*burst=*/3, seconds(30));
  const TimePoint start = TimePoint{} + seconds(1000);
  std::uint64_t suppressed = 99;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(gate.admit(start, &suppressed)) << i;
  EXPECT_EQ(suppressed, 0U);
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(gate.admit(start + seconds(1), &suppressed)) << i;

  EXPECT_TRUE(gate.admit(start + seconds(30), &suppressed));
  EXPECT_EQ(suppressed, 5U);
  EXPECT_FALSE(gate.admit(start + seconds(31), &suppressed));
}

TEST(LogGate, RestoresTheBurstAfterAQuietTime) {
  LogGate gate(/*burst=*/2, seconds(30));
  const TimePoint start = TimePoint{} + seconds(1000);
  std::uint64_t suppressed = 0;
  EXPECT_TRUE(gate.admit(start, &suppressed));
  EXPECT_TRUE(gate.admit(start, &suppressed));
  EXPECT_FALSE(gate.admit(start, &suppressed));

  const TimePoint later = start + seconds(60);
  EXPECT_TRUE(gate.admit(later, &suppressed));
  EXPECT_TRUE(gate.admit(later, &suppressed));
  EXPECT_FALSE(gate.admit(later, &suppressed));
}

}  // namespace
}  // namespace detour
