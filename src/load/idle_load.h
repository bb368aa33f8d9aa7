#pragma once

#include <chrono>
#include <cstdint>

#include "client/failure.h"
#include "load/connection.h"
#include "load/report.h"
#include "load/server_process.h"

namespace detour::load {

struct IdleOptions {
  ConnectionSettings connection;
  std::uint32_t clients = 2000;
  std::uint32_t concurrent = 32;
  std::chrono::milliseconds settle{5000};  ///< Between the last login and the measurement.
};

/// Logs clients in, leaves them alone, and reports the server's resident memory for each.
[[nodiscard]] client::Outcome<Report> run_idle(const IdleOptions& options,
                                               const ServerProcess& server);

}  // namespace detour::load
