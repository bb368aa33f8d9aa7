#pragma once

#include <cstdint>

#include "net/poller.h"
#include "net/timer_wheel.h"
#include "server/http_service.h"

namespace detour::server {

class Worker;

/// One worker's share in a listening socket. All workers wait on the same socket; whoever wakes
/// gives the connection to the worker that has the fewest.
///
/// When descriptors or memory run out it stops listening for a moment instead of spinning on a
/// socket that stays readable.
class Acceptor final : public net::EventHandler, private net::Timer {
 public:
  /// `fd` is not owned and must outlive the acceptor.
  Acceptor(Worker& worker, int fd, ListenerKind kind);
  ~Acceptor() override;

  [[nodiscard]] bool start();
  void on_event(std::uint32_t events) override;

 private:
  void on_timer(TimePoint now) override;
  void pause(int error);

  Worker& worker_;
  const int fd_;
  const ListenerKind kind_;
};

}  // namespace detour::server
