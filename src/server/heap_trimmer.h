#pragma once

#include <cstddef>
#include <functional>
#include <optional>

#include "acme/control_thread.h"
#include "base/clock.h"

namespace detour::server {

/// What the heap of this process holds, in bytes.
struct HeapUse {
  std::size_t resident = 0;  ///< Anonymous memory that is in RAM.
  std::size_t used = 0;      ///< Of what was allocated and not freed.
};

/// When memory that is free and resident is worth giving back.
class TrimRule {
 public:
  /// Less than this is kept for the next clients.
  static constexpr std::size_t kSpareMin = 4 * 1024 * 1024;

  /// Looks once in a while. True when far more is resident than used, now and at the look before (a
  /// busy relay is about to use it again), and trimming has not just shown that no more comes back.
  [[nodiscard]] bool wanted(const HeapUse& use);
  /// What was resident after a trim.
  void trimmed(std::size_t resident) { floor_ = resident; }

 private:
  [[nodiscard]] bool is_excess(const HeapUse& use) const;

  bool was_excess_ = false;
  std::size_t floor_ = 0;
};

/// Gives the memory of a burst of clients back to the system some seconds after they left.
///
/// The heap by itself returns only what lies at its very end, so that one small block of a client
/// who stayed keeps all that others freed before it.
class HeapTrimmer {
 public:
  static constexpr Duration kPeriod = std::chrono::seconds(5);

  /// `release_spare` is called before each look, on a thread of this object's own: whoever keeps
  /// freed memory for the next use lets go of what was not used since.
  explicit HeapTrimmer(std::function<void()> release_spare);

 private:
  TrimRule rule_;
  acme::ControlThread thread_;  ///< Last, so that the rest is there when it begins.
};

/// Read from /proc and the heap; nullopt when /proc cannot be read. Takes the heap's locks for a
/// moment.
[[nodiscard]] std::optional<HeapUse> read_heap_use();

}  // namespace detour::server
