#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

namespace detour {

/// A byte array that grows and is never zero-filled: scratch space that is cleared and used again.
///
/// One owner, one thread. Keeps its memory until destroyed or released.
class ByteBuffer {
 public:
  ByteBuffer() = default;
  explicit ByteBuffer(std::size_t capacity) { reserve(capacity); }

  void reserve(std::size_t capacity) {
    if (capacity <= capacity_) return;
    auto grown = std::make_unique_for_overwrite<std::uint8_t[]>(capacity);
    if (size_ != 0) std::memcpy(grown.get(), bytes_.get(), size_);
    bytes_ = std::move(grown);
    capacity_ = capacity;
  }

  void append(std::span<const std::uint8_t> bytes) {
    if (bytes.empty()) return;
    if (size_ + bytes.size() > capacity_)
      reserve(std::max(size_ + bytes.size(), capacity_ + capacity_ / 2));
    std::memcpy(bytes_.get() + size_, bytes.data(), bytes.size());
    size_ += bytes.size();
  }

  /// Appends `count` bytes for the caller to write. Valid until the next change.
  [[nodiscard]] std::uint8_t* extend(std::size_t count) {
    if (size_ + count > capacity_) reserve(std::max(size_ + count, capacity_ + capacity_ / 2));
    std::uint8_t* const added = bytes_.get() + size_;
    size_ += count;
    return added;
  }

  /// Room behind the content, to write into before commit(). Valid until the next change.
  [[nodiscard]] std::span<std::uint8_t> room() { return {bytes_.get() + size_, capacity_ - size_}; }
  /// Takes `count` bytes that were written into room().
  void commit(std::size_t count) { size_ += count; }

  /// Removes `count` bytes at the front; moves the rest down.
  void consume_front(std::size_t count) {
    if (count < size_) std::memmove(bytes_.get(), bytes_.get() + count, size_ - count);
    size_ -= count;
  }

  void clear() { size_ = 0; }
  void release() {
    bytes_.reset();
    size_ = 0;
    capacity_ = 0;
  }

  [[nodiscard]] std::span<const std::uint8_t> bytes() const { return {bytes_.get(), size_}; }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::size_t capacity() const { return capacity_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }

 private:
  std::unique_ptr<std::uint8_t[]> bytes_;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

}  // namespace detour
