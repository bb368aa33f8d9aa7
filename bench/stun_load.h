#pragma once

#include <chrono>
#include <cstdint>

#include "bench/report.h"
#include "bench/server_process.h"
#include "bench/target.h"
#include "client/failure.h"

namespace detour::bench {

struct StunOptions {
  const Target* target;          ///< Address and UDP port.
  std::uint32_t in_flight = 64;  ///< Over all sockets.
  std::uint32_t sockets = 4;
  std::chrono::milliseconds warm_up{500};
  std::chrono::milliseconds duration{5000};
};

/// Keeps requests in flight and reports answers per second and the cost of each.
[[nodiscard]] client::Outcome<Report> run_stun(const StunOptions& options,
                                               const ServerProcess& server);

}  // namespace detour::bench
