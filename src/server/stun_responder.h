#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>

#include "metrics/counters.h"
#include "net/poller.h"
#include "stun/stun.h"

namespace detour::server {

class Shared;

/// Answers STUN binding requests of Tailscale's form on one UDP socket, from the address that was
/// asked (docs/protocol.md, STUN). Silent for everything else. One worker has it.
class StunResponder final : public net::EventHandler {
 public:
  /// `fd` is not owned.
  StunResponder(int fd, metrics::WorkerCounters& counters, Shared& shared);
  ~StunResponder();

  /// Answers up to one batch; what is left wakes the worker again.
  void on_event(std::uint32_t events) override;

  [[nodiscard]] int fd() const { return fd_; }

 private:
  struct Batch;

  const int fd_;
  metrics::WorkerCounters& counters_;
  Shared& shared_;
  std::unique_ptr<Batch> batch_;
};

}  // namespace detour::server
