#include "base/buffer_pool.h"

#include <gtest/gtest.h>

#include <set>
#include <string_view>
#include <thread>
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

TEST(BlockDepot, BringsBlocksBackThatWanderedToAnotherPool) {
  BlockDepot depot;
  BufferPool sender(&depot);
  BufferPool receiver(&depot);
  std::set<const std::uint8_t*> known;
  // One way only, as packets go that wait for a client of another worker. In the beginning the
  // heap helps out, until the receiver has all that it keeps.
  for (int i = 0; i < 1000; ++i) {
    Block block = sender.get(BufferPool::kPacketSize);
    known.insert(block.data());
    receiver.put(std::move(block));
  }
  EXPECT_LE(known.size(), 300U) << "the rest came back by the depot";
  for (int i = 0; i < 1000; ++i) {
    Block block = sender.get(BufferPool::kPacketSize);
    ASSERT_TRUE(known.contains(block.data()));
    receiver.put(std::move(block));
  }
}

TEST(BlockDepot, LendsNoBlockTwiceAndKeepsALimit) {
  BlockDepot depot;
  BufferPool one(&depot);
  std::vector<Block> blocks(3000);
  for (Block& block : blocks) block = one.get(1);
  for (Block& block : blocks) one.put(std::move(block));
  BufferPool other(&depot);
  std::set<const std::uint8_t*> seen;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    blocks[i] = i % 2 == 0 ? one.get(1) : other.get(1);
    EXPECT_TRUE(seen.insert(blocks[i].data()).second);
  }
}

TEST(BufferPool, FreesWhatWasNotUsedSinceTheLastTime) {
  BufferPool pool;
  const auto burst = [&pool](std::size_t count) {
    std::vector<Block> blocks;
    for (std::size_t i = 0; i < count; ++i) blocks.push_back(pool.get(BufferPool::kPacketSize));
    std::set<const std::uint8_t*> places;
    for (Block& block : blocks) {
      places.insert(block.data());
      pool.put(std::move(block));
    }
    return places;
  };
  const auto first = burst(100);
  pool.drop_unused();  // All of them were in use.
  EXPECT_EQ(burst(100), first);
  pool.drop_unused();
  const auto few = burst(10);
  pool.drop_unused();  // 90 were not.
  EXPECT_EQ(burst(10), few) << "the ones that are used stay";
  pool.drop_unused();
  pool.drop_unused();  // Nothing happened in between: none is left, which must do no harm.
  pool.drop_unused();
  EXPECT_EQ(burst(3).size(), 3U);
}

TEST(BlockDepot, FreesWhatNoPoolTookSinceTheLastTime) {
  BlockDepot depot;
  BlockShelf shelf;
  const auto fill = [&](std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) shelf.push(Block(BufferPool::kPacketSize));
    depot.give(0, count, shelf);
  };
  fill(40);
  depot.drop_unused();  // They only just came.
  depot.take(0, 10, shelf);
  EXPECT_EQ(shelf.size(), 10U);
  depot.give(0, 10, shelf);
  depot.drop_unused();  // 30 lay there all the time.
  depot.take(0, 40, shelf);
  EXPECT_EQ(shelf.size(), 10U);
}

TEST(BlockDepot, ServesManyThreads) {
  BlockDepot depot;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 3; ++thread) {
    threads.emplace_back([&depot, thread] {
      BufferPool pool(&depot);
      std::vector<Block> blocks;
      for (std::size_t round = 0; round < 50; ++round) {
        for (std::size_t i = 0; i < 300; ++i) {
          blocks.push_back(pool.get(BufferPool::kPacketSize));
          blocks.back().data()[0] = static_cast<std::uint8_t>(thread);
        }
        for (Block& block : blocks) {
          ASSERT_EQ(block.data()[0], thread);
          pool.put(std::move(block));
        }
        blocks.clear();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
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
