#pragma once

#include <chrono>
#include <cstdint>

#include "client/failure.h"
#include "load/progress.h"
#include "load/report.h"
#include "load/server_process.h"
#include "load/target.h"

namespace detour::load {

struct StunOptions {
  const Target* target;          ///< Address and UDP port.
  std::uint32_t in_flight = 64;  ///< Over all sockets.
  std::uint32_t sockets = 4;
  std::chrono::milliseconds warm_up{500};
  std::chrono::milliseconds duration{5000};
  /// Evenly, without regard to `in_flight` and without warm-up; 0 = as fast as answers come.
  double requests_per_second = 0;
  Watch watch = {};  ///< Empty: nobody watches.
};

/// Keeps requests in flight and reports answers per second and the cost of each.
[[nodiscard]] client::Outcome<Report> run_stun(const StunOptions& options,
                                               const ServerProcess& server);

}  // namespace detour::load
