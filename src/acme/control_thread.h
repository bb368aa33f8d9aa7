#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <stop_token>
#include <thread>

#include "base/clock.h"

namespace detour::acme {

/// A thread for slow and rare work: does a step, sleeps until the next is due, and can be woken.
///
/// Ends when destroyed: a step under way is asked to stop through its token, and waited for.
class ControlThread {
 public:
  /// Does one step and says after how long the next is due. `was_woken`: wake() was called since
  /// the step before began.
  using Step = std::function<Duration(const std::stop_token& stop, bool was_woken)>;

  explicit ControlThread(Step step);
  ~ControlThread();
  ControlThread(const ControlThread&) = delete;
  ControlThread& operator=(const ControlThread&) = delete;

  /// Has the next step begin at once. Any thread.
  void wake();
  /// Asks for the end without waiting for it. Any thread.
  void request_stop() { thread_.request_stop(); }

 private:
  void run(const std::stop_token& stop);

  const Step step_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  bool woken_ = false;
  std::jthread thread_;  ///< Last, so that the rest is there when it begins.
};

/// Sleeps; false when a stop is requested before the end.
[[nodiscard]] bool sleep_unless(const std::stop_token& stop, Duration duration);

}  // namespace detour::acme
