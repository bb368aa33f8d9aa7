#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "net/fd.h"
#include "net/poller.h"

namespace detour::net {

/// Work that other threads hand to a worker: rare events only, never packets.
///
/// post() may be called from any thread; the tasks run on the worker, in order.
class Mailbox final : public EventHandler {
 public:
  using Task = std::move_only_function<void()>;

  Mailbox();

  /// Wakes the worker if it sleeps.
  void post(Task task);

  /// Runs what was posted. Only on the worker.
  void run_posted();

  [[nodiscard]] int fd() const { return event_.get(); }
  /// Clears the wake-up; the worker runs the tasks later in its turn.
  void on_event(std::uint32_t events) override;

 private:
  UniqueFd event_;
  std::mutex mutex_;
  std::vector<Task> posted_;
  std::vector<Task> running_;
  std::atomic<bool> has_posted_{false};
};

}  // namespace detour::net
