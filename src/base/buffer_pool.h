#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

namespace detour {

/// A block of bytes of a pool's size. Move-only; goes back to a pool by BufferPool::put, else to
/// the heap.
class Block {
 public:
  Block() = default;
  explicit Block(std::size_t capacity)
      : bytes_(std::make_unique_for_overwrite<std::uint8_t[]>(capacity)), capacity_(capacity) {}
  Block(Block&& other) noexcept
      : bytes_(std::move(other.bytes_)), capacity_(std::exchange(other.capacity_, 0)) {}
  Block& operator=(Block&& other) noexcept {
    bytes_ = std::move(other.bytes_);
    capacity_ = std::exchange(other.capacity_, 0);
    return *this;
  }

  [[nodiscard]] std::uint8_t* data() const { return bytes_.get(); }
  [[nodiscard]] std::size_t capacity() const { return capacity_; }
  explicit operator bool() const { return bytes_ != nullptr; }

 private:
  std::unique_ptr<std::uint8_t[]> bytes_;
  std::size_t capacity_ = 0;
};

class BlockDepot;

/// Free blocks of one size, and how many of them nobody needed for a while.
class BlockShelf {
 public:
  void reserve(std::size_t count) { blocks_.reserve(count); }
  [[nodiscard]] std::size_t size() const { return blocks_.size(); }
  [[nodiscard]] bool empty() const { return blocks_.empty(); }

  void push(Block block) { blocks_.push_back(std::move(block)); }
  [[nodiscard]] Block pop() {
    Block block = std::move(blocks_.back());
    blocks_.pop_back();
    unused_ = std::min(unused_, blocks_.size());
    return block;
  }
  /// Moves the last `count` blocks to another shelf.
  void move_last(std::size_t count, BlockShelf& to) {
    for (; count != 0; --count) to.push(pop());
  }
  /// Frees the blocks that lay here untouched since the last call.
  void drop_unused() {
    blocks_.erase(blocks_.begin(), blocks_.begin() + static_cast<std::ptrdiff_t>(unused_));
    unused_ = blocks_.size();
  }

 private:
  std::vector<Block> blocks_;
  std::size_t unused_ = 0;  ///< The fewest that there were since drop_unused().
};

/// Free lists of blocks in a few fixed sizes, so that the data path does not allocate.
///
/// One thread. Blocks may be put into another thread's pool than the one they came from. Pools keep
/// at most a fixed number and give the rest to their depot, which has its own limit, or back to the
/// heap, so nothing piles up; and what a burst left is freed by drop_unused().
class BufferPool {
 public:
  /// Holds a relayed packet of ordinary size with its head.
  static constexpr std::size_t kPacketSize = 2 * 1024;
  /// Holds what one turn usually gathers for one destination.
  static constexpr std::size_t kSmallSize = 8 * 1024;
  static constexpr std::size_t kMediumSize = 32 * 1024;
  /// Holds any one frame of a client.
  static constexpr std::size_t kFrameSize = 72 * 1024;
  /// Holds what one read from a busy source can hold for one destination.
  static constexpr std::size_t kLargeSize = 136 * 1024;

  struct ShelfKind {
    std::size_t block_size;
    std::size_t keep_max;        ///< In each pool.
    std::size_t depot_keep_max;  ///< In the depot besides.
  };
  // At most 5.8 MiB in each pool and 21 MiB in a depot.
  static constexpr std::array<ShelfKind, 5> kShelfKinds = {{{kPacketSize, 128, 1024},
                                                            {kSmallSize, 64, 512},
                                                            {kMediumSize, 8, 64},
                                                            {kFrameSize, 8, 64},
                                                            {kLargeSize, 32, 64}}};

  /// `depot` may be null, and must outlive the pool otherwise.
  explicit BufferPool(BlockDepot* depot = nullptr) : depot_(depot) {
    for (std::size_t i = 0; i < shelves_.size(); ++i) shelves_[i].reserve(kShelfKinds[i].keep_max);
  }

  /// The smallest block of at least `size` bytes; a block made for the purpose above kLargeSize.
  [[nodiscard]] Block get(std::size_t size) {
    for (std::size_t i = 0; i < shelves_.size(); ++i) {
      if (size > kShelfKinds[i].block_size) continue;
      if (shelves_[i].empty()) fill_from_depot(i);
      if (shelves_[i].empty()) return Block(kShelfKinds[i].block_size);
      return shelves_[i].pop();
    }
    return Block(size);
  }

  void put(Block block) {
    for (std::size_t i = 0; i < shelves_.size(); ++i) {
      if (block.capacity() != kShelfKinds[i].block_size) continue;
      if (shelves_[i].size() == kShelfKinds[i].keep_max) empty_into_depot(i);
      if (shelves_[i].size() < kShelfKinds[i].keep_max) shelves_[i].push(std::move(block));
      return;
    }
  }

  /// Frees what nobody took since the last call; for once in a while.
  void drop_unused() {
    for (BlockShelf& shelf : shelves_) shelf.drop_unused();
  }

 private:
  // Half of what a pool keeps, so that a pool on the edge does not go there each time.
  inline void fill_from_depot(std::size_t shelf);
  inline void empty_into_depot(std::size_t shelf);

  BlockDepot* depot_;
  std::array<BlockShelf, kShelfKinds.size()> shelves_;
};

/// Where the pools of several threads even out.
///
/// Blocks wander: a packet that waits for a client of another worker takes a block of the sender's
/// pool and leaves it in that worker's. Without a depot one pool would ask the heap for ever and
/// the other give back to it. Safe from any thread; visited for many blocks at a time, so rarely.
class BlockDepot {
 public:
  BlockDepot() {
    for (std::size_t i = 0; i < shelves_.size(); ++i)
      shelves_[i].reserve(BufferPool::kShelfKinds[i].depot_keep_max);
  }

  /// Moves up to `count` blocks of one size to `to`.
  void take(std::size_t shelf, std::size_t count, BlockShelf& to) {
    const std::lock_guard lock(mutex_);
    shelves_[shelf].move_last(std::min(count, shelves_[shelf].size()), to);
  }

  /// Moves up to `count` blocks of one size from `from`, as far as there is room.
  void give(std::size_t shelf, std::size_t count, BlockShelf& from) {
    const std::lock_guard lock(mutex_);
    const std::size_t room = BufferPool::kShelfKinds[shelf].depot_keep_max - shelves_[shelf].size();
    from.move_last(std::min({count, from.size(), room}), shelves_[shelf]);
  }

  /// Frees what no pool took since the last call; for once in a while.
  void drop_unused() {
    const std::lock_guard lock(mutex_);
    for (BlockShelf& shelf : shelves_) shelf.drop_unused();
  }

 private:
  std::mutex mutex_;
  std::array<BlockShelf, BufferPool::kShelfKinds.size()> shelves_;
};

void BufferPool::fill_from_depot(std::size_t shelf) {
  if (depot_ != nullptr) depot_->take(shelf, kShelfKinds[shelf].keep_max / 2, shelves_[shelf]);
}

void BufferPool::empty_into_depot(std::size_t shelf) {
  if (depot_ != nullptr) depot_->give(shelf, kShelfKinds[shelf].keep_max / 2, shelves_[shelf]);
}

}  // namespace detour
