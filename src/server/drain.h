#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/clock.h"

namespace detour::server {

class Shared;

/// The slow end of a relay: it takes no new connection, lets its clients go one after another over
/// a given time, each told so (Restarting), and ends when the last has left.
class Drain {
 public:
  explicit Drain(Shared& shared) : shared_(shared) {}
  /// Stops as stop() does.
  ~Drain();
  Drain(const Drain&) = delete;
  Drain& operator=(const Drain&) = delete;

  /// Before the workers start: the listening sockets, -1 for one that is not there, and what to do
  /// when all have left.
  void set_up(std::vector<int> listeners, std::function<void()> on_drained);

  /// The longest time.
  static constexpr std::chrono::milliseconds kLongest = std::chrono::hours(24);
  /// Begins, unless it goes on already, or the relay ends. Gives whether it began. Any thread.
  [[nodiscard]] bool begin(std::chrono::milliseconds over);

  /// By each worker once it no longer listens. With the last one the sockets stop listening too.
  void stopped_listening();

  [[nodiscard]] bool is_on() const { return on_.load(); }
  /// How long it goes on at most.
  [[nodiscard]] std::chrono::milliseconds left() const;
  /// Waits no longer for clients to leave, and says nothing to anybody. The listening sockets are
  /// not touched any more then.
  void stop();

 private:
  void wait_for_the_last();

  Shared& shared_;
  std::vector<int> listeners_;
  std::function<void()> on_drained_;
  std::atomic<bool> on_{false};
  std::atomic<std::size_t> workers_listening_{0};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  TimePoint end_{};
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace detour::server
