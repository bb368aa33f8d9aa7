#include "support/allocations.h"

#include <execinfo.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <map>
#include <sstream>
#include <vector>

// The C library's own functions, under the names that it keeps for replacements like these.
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* block, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
}

namespace {

constexpr int kFramesMax = 24;
constexpr std::size_t kPlacesMax = 512;

struct Place {
  std::array<void*, kFramesMax> frames;
  int depth;
  std::size_t size;
};

std::atomic<bool> counting{false};
std::atomic<std::uint64_t> allocations{0};
std::atomic<std::size_t> places_used{0};
std::array<Place, kPlacesMax> places_met;
thread_local bool is_exempt = false;
thread_local bool is_inside = false;

void note_allocation(std::size_t size) {
  if (!counting.load(std::memory_order_relaxed) || is_exempt || is_inside) return;
  allocations.fetch_add(1, std::memory_order_relaxed);
  const std::size_t index = places_used.fetch_add(1, std::memory_order_relaxed);
  if (index >= kPlacesMax) return;
  is_inside = true;
  places_met[index].depth = ::backtrace(places_met[index].frames.data(), kFramesMax);
  places_met[index].size = size;
  is_inside = false;
}

}  // namespace

extern "C" {

void* malloc(std::size_t size) {
  note_allocation(size);
  return __libc_malloc(size);
}

void* calloc(std::size_t count, std::size_t size) {
  note_allocation(count * size);
  return __libc_calloc(count, size);
}

void* realloc(void* block, std::size_t size) {
  note_allocation(size);
  return __libc_realloc(block, size);
}

void* memalign(std::size_t alignment, std::size_t size) {
  note_allocation(size);
  return __libc_memalign(alignment, size);
}

void* aligned_alloc(std::size_t alignment, std::size_t size) {
  return memalign(alignment, size);
}

int posix_memalign(void** block, std::size_t alignment, std::size_t size) {
  void* const made = memalign(alignment, size);
  if (made == nullptr) return ENOMEM;
  *block = made;
  return 0;
}

}  // extern "C"

namespace detour::test {

ExemptThread::ExemptThread() : before_(is_exempt) {
  is_exempt = true;
}

ExemptThread::~ExemptThread() {
  is_exempt = before_;
}

AllocationCount::AllocationCount() {
  // The first backtrace loads a library, which allocates.
  std::array<void*, 4> warm_up;
  ::backtrace(warm_up.data(), static_cast<int>(warm_up.size()));
  allocations.store(0);
  places_used.store(0);
  counting.store(true);
}

AllocationCount::~AllocationCount() {
  stop();
}

std::uint64_t AllocationCount::stop() {
  counting.store(false);
  return allocations.load();
}

std::string AllocationCount::places() const {
  const std::size_t used = std::min(places_used.load(), kPlacesMax);
  std::map<std::string, int> met;
  for (std::size_t i = 0; i < used; ++i) {
    const Place& place = places_met[i];
    char** const names = ::backtrace_symbols(place.frames.data(), place.depth);
    std::ostringstream text;
    text << place.size << " bytes\n";
    // The first two are the counting itself.
    for (int frame = 2; frame < place.depth; ++frame) text << "    " << names[frame] << '\n';
    std::free(names);
    ++met[text.str()];
  }
  std::vector<std::pair<int, std::string>> sorted;
  for (const auto& [text, count] : met) sorted.emplace_back(count, text);
  std::ranges::sort(sorted, std::greater{});
  std::ostringstream all;
  for (const auto& [count, text] : sorted) all << count << " times " << text;
  return std::move(all).str();
}

}  // namespace detour::test
