#pragma once

#include <sys/epoll.h>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "net/fd.h"

namespace detour::net {

/// What a Poller reports events to.
class EventHandler {
 public:
  /// `events` are EPOLL* bits.
  virtual void on_event(std::uint32_t events) = 0;

 protected:
  ~EventHandler() = default;
};

/// Thin layer over epoll. One per worker, used by its thread alone.
class Poller {
 public:
  /// Aborts when the kernel gives no epoll descriptor: called at start-up only.
  Poller();

  /// False with errno when the kernel refuses (out of memory or watches).
  [[nodiscard]] bool add(int fd, std::uint32_t events, EventHandler& handler);
  /// Changes what an added descriptor is watched for, and reports at once what already holds. The
  /// only call that other threads may make, too; `fd` has to stay open meanwhile.
  void modify(int fd, std::uint32_t events, EventHandler& handler) const;
  void remove(int fd);

  /// Waits until something happens or `timeout` passes (nullopt: no limit). Gives the events, valid
  /// until the next call.
  [[nodiscard]] std::span<const epoll_event> wait(std::optional<Duration> timeout);

 private:
  static constexpr std::size_t kEventsMax = 512;

  UniqueFd epoll_;
  std::vector<epoll_event> events_;
};

}  // namespace detour::net
