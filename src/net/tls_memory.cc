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
// What it takes to write the head of a record (WPACKET_SUB): three for each record sealed, one for
// each opened. 40 bytes is what the heap gives for anything from 25 on.
constexpr std::size_t kNoteSizeMin = 25;
constexpr std::size_t kNoteSizeMax = 40;

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

struct Shelves {
  Shelf<16> records;
  Shelf<16> notes;
};

Shelves& shelves() {
  thread_local Shelves this_thread;
  return this_thread;
}

void* allocate(std::size_t size, const char* /*file*/, int /*line*/) {
  if (size == 0) return nullptr;
  if (size >= kNoteSizeMin && size <= kNoteSizeMax) return shelves().notes.take(kNoteSizeMax);
  if (size >= kRecordSizeMin && size <= kRecordSizeMax)
    return shelves().records.take(kRecordSizeMax);
  return std::malloc(size);
}

void release(void* block, const char* /*file*/, int /*line*/) {
  if (block == nullptr) return;
  // What the heap says is usable tells which shelf a block can serve on, wherever it came from; the
  // heap may give a little more than was asked for.
  const std::size_t usable = malloc_usable_size(block);
  if (usable >= kNoteSizeMax && usable < kNoteSizeMax + 8) return shelves().notes.give(block);
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
