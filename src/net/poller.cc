#include "net/poller.h"

#include <algorithm>

#include "base/check.h"

namespace detour::net {

Poller::Poller() : epoll_(::epoll_create1(EPOLL_CLOEXEC)), events_(kEventsMax) {
  DETOUR_CHECK(static_cast<bool>(epoll_));
}

bool Poller::add(int fd, std::uint32_t events, EventHandler& handler) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = &handler;
  return ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

void Poller::modify(int fd, std::uint32_t events, EventHandler& handler) const {
  epoll_event event{};
  event.events = events;
  event.data.ptr = &handler;
  static_cast<void>(::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event));
}

void Poller::remove(int fd) {
  static_cast<void>(::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr));
}

std::span<const epoll_event> Poller::wait(std::optional<Duration> timeout) {
  int milliseconds = -1;
  if (timeout) {
    // Rounded up, so that a timer is due when the wait ends.
    const auto wanted = std::chrono::ceil<std::chrono::milliseconds>(*timeout).count();
    milliseconds = static_cast<int>(std::clamp<std::int64_t>(wanted, 0, 60'000));
  }
  const int count =
      ::epoll_wait(epoll_.get(), events_.data(), static_cast<int>(events_.size()), milliseconds);
  return {events_.data(), static_cast<std::size_t>(std::max(count, 0))};
}

}  // namespace detour::net
