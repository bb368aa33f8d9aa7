#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
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

/// Free lists of blocks in a few fixed sizes, so that the data path does not allocate.
///
/// One thread. Blocks may be put into another thread's pool than the one they came from: pools keep
/// at most a fixed number and give the rest back to the heap, so nothing piles up.
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

  /// The smallest block of at least `size` bytes; a block made for the purpose above kLargeSize.
  [[nodiscard]] Block get(std::size_t size) {
    for (auto& shelf : shelves_) {
      if (size > shelf.block_size) continue;
      if (shelf.free.empty()) return Block(shelf.block_size);
      Block block = std::move(shelf.free.back());
      shelf.free.pop_back();
      return block;
    }
    return Block(size);
  }

  void put(Block block) {
    for (auto& shelf : shelves_) {
      if (block.capacity() != shelf.block_size) continue;
      if (shelf.free.size() < shelf.keep_max) shelf.free.push_back(std::move(block));
      return;
    }
  }

 private:
  struct Shelf {
    std::size_t block_size;
    std::size_t keep_max;
    std::vector<Block> free;

    Shelf(std::size_t size, std::size_t keep) : block_size(size), keep_max(keep) {
      free.reserve(keep);
    }
  };

  // At most 1 + 2 + 1 + 2.25 + 8.5 MiB are kept per worker.
  Shelf shelves_[5] = {{kPacketSize, 512},
                       {kSmallSize, 256},
                       {kMediumSize, 32},
                       {kFrameSize, 32},
                       {kLargeSize, 64}};
};

}  // namespace detour
