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

/// Record buffers that this thread freed and may use again.
struct Shelf {
  static constexpr std::size_t kKeepMax = 16;

  std::array<void*, kKeepMax> blocks{};
  std::size_t count = 0;
  bool closed = false;  ///< The thread is ending: what is freed from now on goes to the heap.

  ~Shelf() {
    while (count != 0) std::free(blocks[--count]);
    closed = true;
  }
};

Shelf& shelf() {
  thread_local Shelf this_thread;
  return this_thread;
}

bool is_record_size(std::size_t size) {
  return size >= kRecordSizeMin && size <= kRecordSizeMax;
}

void* allocate(std::size_t size, const char* /*file*/, int /*line*/) {
  if (size == 0) return nullptr;
  if (!is_record_size(size)) return std::malloc(size);
  Shelf& own = shelf();
  if (own.count != 0) return own.blocks[--own.count];
  return std::malloc(kRecordSizeMax);
}

void release(void* block, const char* /*file*/, int /*line*/) {
  if (block == nullptr) return;
  // What the heap says is usable tells whether a block can serve as a record buffer, wherever it
  // came from; the heap may give a little more than was asked for.
  const std::size_t usable = malloc_usable_size(block);
  if (usable >= kRecordSizeMax && usable <= kRecordSizeMax + 64) {
    Shelf& own = shelf();
    if (!own.closed && own.count < Shelf::kKeepMax) {
      own.blocks[own.count++] = block;
      return;
    }
  }
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
