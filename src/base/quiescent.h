#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace detour {

/// Base of what may be destroyed only when no worker can still see it.
class Retirable {
 public:
  virtual ~Retirable() = default;

 protected:
  Retirable() = default;
  Retirable(const Retirable&) = default;
  Retirable& operator=(const Retirable&) = default;
};

/// Quiescent-state reclamation: readers pay one store per loop turn and nothing per access.
///
/// A worker is *online* while it handles a turn, and may then hold pointers that it read from
/// shared structures; it holds none while *offline* (asleep in its poll, or not running). An object
/// is first unlinked, so that nobody can find it any more, then retired; it is destroyed once every
/// worker that was online at that moment has been offline since.
///
/// Unlinking stores, the loads that find objects, and the states below are all sequentially
/// consistent: either a reader no longer finds the object, or retire() sees that reader online.
///
/// Any thread may call retire() and collect(); online() and offline() belong to the worker of that
/// index.
class Quiescence {
 public:
  explicit Quiescence(std::size_t worker_count);

  void online(std::size_t worker);
  void offline(std::size_t worker);

  /// Takes an object that nobody can find any more.
  void retire(std::unique_ptr<Retirable> object);

  /// Destroys what no worker can hold. Cheap when nothing waits. Call while offline or from a
  /// thread without an index, otherwise the caller's own turn holds the objects.
  void collect();

  [[nodiscard]] bool has_pending() const { return pending_.load(std::memory_order_relaxed) != 0; }

 private:
  static constexpr std::uint64_t kOffline = 0;

  struct alignas(64) State {
    std::atomic<std::uint64_t> epoch{kOffline};
  };
  struct Retired {
    std::uint64_t epoch;
    std::unique_ptr<Retirable> object;
  };

  [[nodiscard]] std::uint64_t oldest_online() const;

  std::atomic<std::uint64_t> epoch_{1};
  std::vector<State> workers_;
  std::atomic<std::size_t> pending_{0};
  std::mutex mutex_;
  std::vector<Retired> retired_;
};

}  // namespace detour
