#include "base/quiescent.h"

#include <limits>
#include <utility>

namespace detour {

Quiescence::Quiescence(std::size_t worker_count) : workers_(worker_count) {}

void Quiescence::online(std::size_t worker) {
  workers_[worker].epoch.store(epoch_.load(std::memory_order_seq_cst), std::memory_order_seq_cst);
}

void Quiescence::offline(std::size_t worker) {
  workers_[worker].epoch.store(kOffline, std::memory_order_seq_cst);
}

void Quiescence::retire(std::unique_ptr<Retirable> object) {
  const std::lock_guard lock(mutex_);
  // Workers that come online from here on read a larger epoch and cannot find the object.
  const std::uint64_t epoch = epoch_.fetch_add(1, std::memory_order_seq_cst);
  retired_.push_back({.epoch = epoch, .object = std::move(object)});
  pending_.store(retired_.size(), std::memory_order_relaxed);
}

std::uint64_t Quiescence::oldest_online() const {
  std::uint64_t oldest = std::numeric_limits<std::uint64_t>::max();
  for (const State& state : workers_) {
    const std::uint64_t epoch = state.epoch.load(std::memory_order_seq_cst);
    if (epoch != kOffline && epoch < oldest) oldest = epoch;
  }
  return oldest;
}

void Quiescence::collect() {
  if (!has_pending()) return;
  std::vector<Retired> dead;
  {
    const std::lock_guard lock(mutex_);
    const std::uint64_t oldest = oldest_online();
    std::erase_if(retired_, [&](Retired& item) {
      // A worker online since epoch e may hold whatever was retired at e or later.
      if (item.epoch >= oldest) return false;
      dead.push_back(std::move(item));
      return true;
    });
    pending_.store(retired_.size(), std::memory_order_relaxed);
  }
  // Destructors run here, outside the lock.
}

}  // namespace detour
