#include "net/tls_memory.h"

#include <malloc.h>
#include <openssl/crypto.h>

#include <array>
#include <cstdlib>

namespace detour::net {

namespace {

// OpenSSL 3's record buffers: 16 KiB of plaintext plus header, padding, tag and alignment, which
// comes to between 16.5 and 17.5 KiB depending on version and direction. All are served from one
// size.
constexpr std::size_t kRecordSizeMin = 16 * 1024;
constexpr std::size_t kRecordSizeMax = 18 * 1024;
// Small blocks: a record needs four of 40 bytes, a handshake hundreds of all sizes, most of them
// for a moment. The heap's own cache per thread holds too few of each. Sizes go in the heap's steps
// of 16 bytes: 24, 40, 56 ...
constexpr std::size_t kSmallStep = 16;
constexpr std::size_t kSmallSizeMin = 24;
constexpr std::size_t kSmallSizeMax = 1032;
constexpr std::size_t kSmallShelves = (kSmallSizeMax - kSmallSizeMin) / kSmallStep + 1;

/// The shelf whose blocks hold `size` bytes.
constexpr std::size_t shelf_that_holds(std::size_t size) {
  return size <= kSmallSizeMin ? 0 : (size - kSmallSizeMin + kSmallStep - 1) / kSmallStep;
}
/// The shelf that a block of `usable` bytes can serve on.
constexpr std::size_t shelf_served_by(std::size_t usable) {
  return (usable - kSmallSizeMin) / kSmallStep;
}
constexpr std::size_t block_size(std::size_t shelf) {
  return kSmallSizeMin + shelf * kSmallStep;
}
static_assert(block_size(shelf_that_holds(25)) == 40 && block_size(shelf_that_holds(40)) == 40);
static_assert(shelf_that_holds(kSmallSizeMax) == kSmallShelves - 1);

/// Blocks of one size that this thread freed and may use again.
template <std::size_t kKeepMax>
class Shelf {
 public:
  ~Shelf() {
    while (count_ != 0) std::free(blocks_[--count_]);
    closed_ = true;
  }

  /// A block of `size` bytes, which is the same for all of this shelf.
  void* take(std::size_t size) { return count_ != 0 ? blocks_[--count_] : std::malloc(size); }
  void give(void* block) {
    if (closed_ || count_ == kKeepMax) {
      std::free(block);
    } else {
      blocks_[count_++] = block;
    }
  }

 private:
  std::array<void*, kKeepMax> blocks_{};
  std::size_t count_ = 0;
  bool closed_ = false;  ///< The thread is ending: what is freed from now on goes to the heap.
};

/// At most 0.3 MiB of records and 1.1 MiB of small blocks in each thread.
struct Shelves {
  Shelf<16> records;
  std::array<Shelf<32>, kSmallShelves> small;
};

Shelves& shelves() {
  thread_local Shelves this_thread;
  return this_thread;
}

void* allocate(std::size_t size, const char* /*file*/, int /*line*/) {
  if (size == 0) return nullptr;
  if (size <= kSmallSizeMax) {
    const std::size_t shelf = shelf_that_holds(size);
    return shelves().small[shelf].take(block_size(shelf));
  }
  if (size >= kRecordSizeMin && size <= kRecordSizeMax)
    return shelves().records.take(kRecordSizeMax);
  return std::malloc(size);
}

void release(void* block, const char* /*file*/, int /*line*/) {
  if (block == nullptr) return;
  // What the heap says is usable tells which shelf a block can serve on, wherever it came from; the
  // heap may give a little more than was asked for.
  const std::size_t usable = malloc_usable_size(block);
  if (usable >= kSmallSizeMin && usable < kSmallSizeMax + kSmallStep)
    return shelves().small[shelf_served_by(usable)].give(block);
  if (usable >= kRecordSizeMax && usable <= kRecordSizeMax + 64)
    return shelves().records.give(block);
  std::free(block);
}

void* reallocate(void* block, std::size_t size, const char* file, int line) {
  if (size == 0) {
    release(block, file, line);
    return nullptr;
  }
  // A block from the shelf is an ordinary heap block.
  return std::realloc(block, size);
}

}  // namespace

bool install_tls_memory() {
  return CRYPTO_set_mem_functions(allocate, reallocate, release) == 1;
}

}  // namespace detour::net
