#include "base/quiescent.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace detour {
namespace {

/// Says when it is destroyed.
class Tracked final : public Retirable {
 public:
  explicit Tracked(int& destroyed) : destroyed_(destroyed) {}
  Tracked(const Tracked&) = delete;
  Tracked& operator=(const Tracked&) = delete;
  ~Tracked() override { ++destroyed_; }

 private:
  int& destroyed_;
};

TEST(Quiescence, DestroysAtTheNextCollectWhenNoWorkerIsOnline) {
  Quiescence quiescence(2);
  int destroyed = 0;
  EXPECT_FALSE(quiescence.has_pending());
  quiescence.retire(std::make_unique<Tracked>(destroyed));
  EXPECT_TRUE(quiescence.has_pending());
  EXPECT_EQ(destroyed, 0);

  quiescence.collect();
  EXPECT_EQ(destroyed, 1);
  EXPECT_FALSE(quiescence.has_pending());
}

TEST(Quiescence, KeepsAnObjectAsLongAsAWorkerOnlineAtItsRetirementStaysOnline) {
  Quiescence quiescence(2);
  int destroyed = 0;
  quiescence.online(0);
  quiescence.retire(std::make_unique<Tracked>(destroyed));
  // The other worker's turns change nothing.
  for (int turn = 0; turn < 5; ++turn) {
    quiescence.online(1);
    quiescence.collect();
    quiescence.offline(1);
    quiescence.collect();
    EXPECT_EQ(destroyed, 0);
  }
  quiescence.offline(0);
  EXPECT_EQ(destroyed, 0) << "going offline itself destroys nothing";
  quiescence.collect();
  EXPECT_EQ(destroyed, 1);
}

TEST(Quiescence, AWorkerThatCameOnlineLaterHoldsNothing) {
  Quiescence quiescence(2);
  int destroyed = 0;
  quiescence.retire(std::make_unique<Tracked>(destroyed));
  quiescence.online(0);
  quiescence.collect();
  EXPECT_EQ(destroyed, 1);
}

TEST(Quiescence, OneTurnEndedIsEnoughAlthoughTheNextHasBegun) {
  Quiescence quiescence(1);
  int destroyed = 0;
  quiescence.online(0);
  quiescence.retire(std::make_unique<Tracked>(destroyed));
  quiescence.offline(0);
  quiescence.online(0);
  quiescence.collect();
  EXPECT_EQ(destroyed, 1);
}

TEST(Quiescence, EachObjectWaitsForTheWorkersOfItsOwnTime) {
  Quiescence quiescence(2);
  int early = 0;
  int late = 0;
  quiescence.online(0);
  quiescence.retire(std::make_unique<Tracked>(early));
  quiescence.online(1);
  quiescence.retire(std::make_unique<Tracked>(late));

  quiescence.offline(0);
  quiescence.collect();
  EXPECT_EQ(early, 1) << "worker 1 came too late to see it";
  EXPECT_EQ(late, 0) << "worker 1 may hold it";
  quiescence.offline(1);
  quiescence.collect();
  EXPECT_EQ(late, 1);
}

TEST(Quiescence, ADestructorMayRetireFurtherObjects) {
  class Chain final : public Retirable {
   public:
    Chain(Quiescence& quiescence, int& destroyed) : quiescence_(quiescence), last_(destroyed) {}
    Chain(const Chain&) = delete;
    Chain& operator=(const Chain&) = delete;
    ~Chain() override { quiescence_.retire(std::make_unique<Tracked>(last_)); }

   private:
    Quiescence& quiescence_;
    int& last_;
  };

  Quiescence quiescence(1);
  int destroyed = 0;
  quiescence.retire(std::make_unique<Chain>(quiescence, destroyed));
  quiescence.collect();
  EXPECT_TRUE(quiescence.has_pending());
  quiescence.collect();
  EXPECT_EQ(destroyed, 1);
}

// Readers follow pointers that writers replace all the time. ThreadSanitizer sees it when an object
// is destroyed too early; without it the mark in the object does.
TEST(Quiescence, ReadersNeverSeeADestroyedObjectUnderConcurrentReplacement) {
  static constexpr std::uint64_t kAlive = 0x0a11'5e11'0a11'5e11;
  static constexpr std::size_t kReaders = 3;
  static constexpr std::size_t kSlots = 8;
  static constexpr int kReplacementsPerWriter = 4000;

  struct Node final : Retirable {
    explicit Node(std::atomic<int>& destroyed_in) : destroyed(destroyed_in) {}
    Node(const Node&) = delete;
    Node& operator=(const Node&) = delete;
    ~Node() override {
      mark = 0;
      destroyed.fetch_add(1, std::memory_order_relaxed);
    }
    std::uint64_t mark = kAlive;
    std::atomic<int>& destroyed;
  };

  std::atomic<int> destroyed{0};
  std::atomic<int> broken{0};
  std::atomic<int> writers_left{2};
  Quiescence quiescence(kReaders);
  std::array<std::atomic<Node*>, kSlots> slots;
  for (auto& slot : slots) slot.store(new Node(destroyed));

  std::vector<std::thread> threads;
  for (std::size_t index = 0; index < kReaders; ++index) {
    threads.emplace_back([&, index] {
      while (writers_left.load() != 0) {
        quiescence.online(index);
        std::array<const Node*, kSlots> seen;
        for (std::size_t i = 0; i < kSlots; ++i) seen[i] = slots[i].load(std::memory_order_seq_cst);
        for (int round = 0; round < 20; ++round) {
          for (const Node* node : seen) {
            if (node->mark != kAlive) broken.fetch_add(1);
          }
        }
        quiescence.offline(index);
        quiescence.collect();
      }
    });
  }
  for (std::size_t writer = 0; writer < 2; ++writer) {
    threads.emplace_back([&, writer] {
      for (int i = 0; i < kReplacementsPerWriter; ++i) {
        auto& slot = slots[(static_cast<std::size_t>(i) * 2 + writer) % kSlots];
        Node* const old = slot.exchange(new Node(destroyed), std::memory_order_seq_cst);
        quiescence.retire(std::unique_ptr<Retirable>(old));
        if (i % 16 == 0) quiescence.collect();
      }
      writers_left.fetch_sub(1);
    });
  }
  for (std::thread& thread : threads) thread.join();

  EXPECT_EQ(broken.load(), 0);
  quiescence.collect();
  EXPECT_FALSE(quiescence.has_pending());
  EXPECT_EQ(destroyed.load(), 2 * kReplacementsPerWriter);
  for (auto& slot : slots) delete slot.load();
}

}  // namespace
}  // namespace detour
