#include "server/heap_trimmer.h"

#include <malloc.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>

#include "base/files.h"

namespace detour::server {

namespace {

constexpr std::size_t kStatusSizeMax = 16 * 1024;
constexpr std::string_view kResidentField = "RssAnon:";

/// The anonymous resident memory out of /proc/self/status, where it stands in KiB.
std::optional<std::size_t> read_resident() {
  const auto status = read_file("/proc/self/status", kStatusSizeMax);
  if (!status) return std::nullopt;
  auto at = status->find(kResidentField);
  if (at == std::string::npos) return std::nullopt;
  at = status->find_first_of("0123456789", at);
  if (at == std::string::npos) return std::nullopt;
  std::size_t kib = 0;
  const auto [end, error] =
      std::from_chars(status->data() + at, status->data() + status->size(), kib);
  if (error != std::errc()) return std::nullopt;
  return kib * 1024;
}

}  // namespace

bool TrimRule::is_excess(const HeapUse& use) const {
  const std::size_t spare = std::max(kSpareMin, use.used / 8);
  // What stays resident after a trim is fragments: it is in excess only once it grows.
  return use.resident > use.used + spare && use.resident > floor_ + spare;
}

bool TrimRule::wanted(const HeapUse& use) {
  floor_ = std::min(floor_, use.resident);
  const bool excess = is_excess(use);
  const bool wanted = excess && was_excess_;
  was_excess_ = excess && !wanted;
  return wanted;
}

std::optional<HeapUse> read_heap_use() {
  const auto resident = read_resident();
  if (!resident) return std::nullopt;
  const auto heap = ::mallinfo2();
  return HeapUse{.resident = *resident, .used = heap.uordblks + heap.hblkhd};
}

HeapTrimmer::HeapTrimmer(std::function<void()> release_spare)
    : thread_([this, release_spare = std::move(release_spare)](const std::stop_token& /*stop*/,
                                                               bool /*was_woken*/) {
        release_spare();
        if (const auto use = read_heap_use(); use && rule_.wanted(*use)) {
          ::malloc_trim(0);
          if (const auto after = read_resident()) rule_.trimmed(*after);
        }
        return kPeriod;
      }) {}

}  // namespace detour::server
