#include "server/heap_trimmer.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace detour::server {
namespace {

constexpr std::size_t kMiB = 1024 * 1024;

TEST(TrimRule, WantsATrimWhenTwoLooksInARowSeeMuchMoreThanIsUsed) {
  TrimRule rule;
  EXPECT_FALSE(rule.wanted({.resident = 240 * kMiB, .used = 8 * kMiB}));
  EXPECT_TRUE(rule.wanted({.resident = 240 * kMiB, .used = 8 * kMiB}));
}

TEST(TrimRule, LeavesABusyHeapAlone) {
  TrimRule rule;
  for (int i = 0; i < 5; ++i) {
    EXPECT_FALSE(rule.wanted({.resident = 240 * kMiB, .used = 8 * kMiB})) << "just freed";
    EXPECT_FALSE(rule.wanted({.resident = 240 * kMiB, .used = 235 * kMiB})) << "used again";
  }
}

TEST(TrimRule, KeepsALittleForTheNextClients) {
  TrimRule small;
  TrimRule large;
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(small.wanted({.resident = 8 * kMiB + TrimRule::kSpareMin, .used = 8 * kMiB}));
    EXPECT_FALSE(large.wanted({.resident = 90 * kMiB, .used = 80 * kMiB})) << "an eighth";
  }
  EXPECT_FALSE(small.wanted({.resident = 8 * kMiB + TrimRule::kSpareMin + 1, .used = 8 * kMiB}));
  EXPECT_TRUE(small.wanted({.resident = 8 * kMiB + TrimRule::kSpareMin + 1, .used = 8 * kMiB}));
}

TEST(TrimRule, DoesNotTryAgainWhatCannotBeGivenBackUntilItGrows) {
  TrimRule rule;
  const HeapUse fragments{.resident = 40 * kMiB, .used = 8 * kMiB};
  EXPECT_FALSE(rule.wanted(fragments));
  EXPECT_TRUE(rule.wanted(fragments));
  rule.trimmed(fragments.resident);
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(rule.wanted(fragments));
  const HeapUse more{.resident = 45 * kMiB, .used = 8 * kMiB};
  EXPECT_FALSE(rule.wanted(more));
  EXPECT_TRUE(rule.wanted(more));
}

TEST(TrimRule, LearnsThatLessIsResidentByNow) {
  TrimRule rule;
  rule.trimmed(100 * kMiB);
  EXPECT_FALSE(rule.wanted({.resident = 20 * kMiB, .used = 19 * kMiB}));
  EXPECT_FALSE(rule.wanted({.resident = 60 * kMiB, .used = 19 * kMiB}));
  EXPECT_TRUE(rule.wanted({.resident = 60 * kMiB, .used = 19 * kMiB}));
}

TEST(HeapUse, CountsWhatIsAllocated) {
  const auto before = read_heap_use();
  ASSERT_TRUE(before.has_value());
  std::vector<std::unique_ptr<char[]>> blocks;
  for (int i = 0; i < 512; ++i) blocks.push_back(std::make_unique<char[]>(16 * 1024));
  const auto after = read_heap_use();
  ASSERT_TRUE(after.has_value());
  EXPECT_GT(after->resident, 0U);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_GE(after->used, before->used + 8 * kMiB) << "sanitizers have heaps of their own";
#endif
}

}  // namespace
}  // namespace detour::server
