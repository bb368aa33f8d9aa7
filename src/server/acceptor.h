#pragma once

#include <cstdint>
#include <optional>

#include "net/address.h"
#include "net/poller.h"
#include "net/timer_wheel.h"
#include "server/connection_limits.h"
#include "server/http_service.h"

namespace detour::server {

class Shared;
class Worker;
struct WorkerScratch;

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
  [[nodiscard]] bool admit_rate(const net::SocketAddress& peer);
  [[nodiscard]] std::optional<ConnectionLimits::Slot> take_slot(const net::SocketAddress& peer);

  Worker& worker_;
  const int fd_;
  const ListenerKind kind_;
};

/// Counts and logs that an address has all the connections that it may have.
void note_address_refused(Shared& shared, WorkerScratch& scratch, const net::SocketAddress& peer);

}  // namespace detour::server
