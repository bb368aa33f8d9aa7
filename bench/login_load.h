#pragma once

#include <chrono>
#include <cstdint>

#include "bench/connection.h"
#include "bench/report.h"
#include "bench/server_process.h"
#include "client/failure.h"

namespace detour::bench {

struct LoginOptions {
  ConnectionSettings connection;
  std::uint32_t concurrent = 8;
  std::chrono::milliseconds warm_up{1000};
  std::chrono::milliseconds duration{5000};
};

/// Full handshake, login and close, again and again; reports logins per second and their cost.
[[nodiscard]] client::Outcome<Report> run_login(const LoginOptions& options,
                                                const ServerProcess& server);

}  // namespace detour::bench
