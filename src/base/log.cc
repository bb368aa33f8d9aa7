#include "base/log.h"

namespace detour {

bool LogGate::admit(TimePoint now, std::uint64_t* suppressed) {
  const std::int64_t now_ticks = now.time_since_epoch().count();
  const std::int64_t start = window_start_.load(std::memory_order_relaxed);
  if (start == 0 || now_ticks - start >= interval_.count()) {
    // After a quiet interval the whole burst is available again, otherwise a single line.
    const bool quiet = start == 0 || now_ticks - start >= 2 * interval_.count();
    window_start_.store(now_ticks, std::memory_order_relaxed);
    passed_.store(quiet ? 1 : burst_, std::memory_order_relaxed);
    *suppressed = suppressed_.exchange(0, std::memory_order_relaxed);
    return true;
  }
  if (passed_.fetch_add(1, std::memory_order_relaxed) < burst_) {
    *suppressed = suppressed_.exchange(0, std::memory_order_relaxed);
    return true;
  }
  passed_.fetch_sub(1, std::memory_order_relaxed);
  suppressed_.fetch_add(1, std::memory_order_relaxed);
  return false;
}

}  // namespace detour
