#include "base/buffer_pool.h"

#include <gtest/gtest.h>

#include <string_view>
#include <utility>
#include <vector>

namespace detour {
namespace {

TEST(BufferPool, GivesTheSmallestSizeThatFits) {
  struct Case {
    std::string_view name;
    std::size_t wanted;
    std::size_t given;
  };
  constexpr Case kCases[] = {
      {"nothing", 0, BufferPool::kPacketSize},
      {"one byte", 1, BufferPool::kPacketSize},
      {"a whole packet block", BufferPool::kPacketSize, BufferPool::kPacketSize},
      {"one byte more", BufferPool::kPacketSize + 1, BufferPool::kSmallSize},
      {"a whole small block", BufferPool::kSmallSize, BufferPool::kSmallSize},
      {"one byte more than small", BufferPool::kSmallSize + 1, BufferPool::kMediumSize},
      {"a whole medium block", BufferPool::kMediumSize, BufferPool::kMediumSize},
      {"one byte more than medium", BufferPool::kMediumSize + 1, BufferPool::kFrameSize},
      {"a whole frame block", BufferPool::kFrameSize, BufferPool::kFrameSize},
      {"one byte more than a frame", BufferPool::kFrameSize + 1, BufferPool::kLargeSize},
      {"a whole large block", BufferPool::kLargeSize, BufferPool::kLargeSize},
      {"one byte more than large", BufferPool::kLargeSize + 1, BufferPool::kLargeSize + 1},
  };
  BufferPool pool;
  for (const auto& [name, wanted, given] : kCases) {
    SCOPED_TRACE(name);
    const Block block = pool.get(wanted);
    ASSERT_TRUE(block);
    EXPECT_EQ(block.capacity(), given);
  }
}

TEST(BufferPool, GivesOutAgainWhatWasPutBackLastFirst) {
  BufferPool pool;
  Block first = pool.get(100);
  Block second = pool.get(100);
  const std::uint8_t* const first_at = first.data();
  const std::uint8_t* const second_at = second.data();
  pool.put(std::move(first));
  pool.put(std::move(second));
  // Kept here, so that the heap cannot give the same places again.
  const Block again_second = pool.get(100);
  const Block again_first = pool.get(100);
  EXPECT_EQ(again_second.data(), second_at);
  EXPECT_EQ(again_first.data(), first_at);
}

TEST(BufferPool, KeepsSizesApart) {
  BufferPool pool;
  pool.put(pool.get(BufferPool::kLargeSize));
  pool.put(pool.get(BufferPool::kPacketSize));
  EXPECT_EQ(pool.get(BufferPool::kMediumSize).capacity(), BufferPool::kMediumSize);
  EXPECT_EQ(pool.get(1).capacity(), BufferPool::kPacketSize);
}

TEST(BufferPool, TakesBlocksOfAnotherPoolAndForgetsOddOnes) {
  BufferPool one;
  BufferPool other;
  Block travels = one.get(BufferPool::kSmallSize);
  const std::uint8_t* const at = travels.data();
  other.put(std::move(travels));
  const Block arrived = other.get(BufferPool::kSmallSize);
  EXPECT_EQ(arrived.data(), at);

  other.put(other.get(BufferPool::kLargeSize + 1));
  other.put(Block{});
  EXPECT_EQ(other.get(BufferPool::kLargeSize).capacity(), BufferPool::kLargeSize);
}

TEST(BufferPool, SurvivesMoreBlocksThanItKeeps) {
  BufferPool pool;
  std::vector<Block> blocks(2000);
  for (int round = 0; round < 2; ++round) {
    for (Block& block : blocks) {
      block = pool.get(BufferPool::kPacketSize);
      block.data()[0] = 1;
      block.data()[BufferPool::kPacketSize - 1] = 2;
    }
    for (Block& block : blocks) pool.put(std::move(block));
  }
}

TEST(Block, MovingLeavesNothingBehind) {
  Block from(64);
  const std::uint8_t* const at = from.data();
  Block to(std::move(from));
  EXPECT_EQ(to.data(), at);
  EXPECT_EQ(to.capacity(), 64U);
  EXPECT_FALSE(from);              // NOLINT(bugprone-use-after-move): that is the point.
  EXPECT_EQ(from.capacity(), 0U);  // NOLINT(bugprone-use-after-move)

  Block assigned(32);
  assigned = std::move(to);
  EXPECT_EQ(assigned.data(), at);
  EXPECT_EQ(assigned.capacity(), 64U);
  EXPECT_EQ(to.capacity(), 0U);  // NOLINT(bugprone-use-after-move)
  EXPECT_FALSE(Block{});
}

}  // namespace
}  // namespace detour
