#pragma once

#include <chrono>
#include <cstdint>

#include "client/failure.h"
#include "load/connection.h"
#include "load/progress.h"
#include "load/report.h"
#include "load/server_process.h"

namespace detour::load {

/// Many more than are ever logged in at once, so a key's last connection is gone when it comes
/// back; few enough that most logins are of nodes that come back, as they do to a relay in use.
inline constexpr std::uint32_t kNodesThatComeBack = 512;

struct LoginOptions {
  ConnectionSettings connection;
  std::uint32_t keys = kNodesThatComeBack;  ///< Nodes that log in, one after another, in turn.
  std::uint32_t concurrent = 8;
  std::chrono::milliseconds warm_up{1000};
  std::chrono::milliseconds duration{5000};
  std::uint64_t logins_max = 0;  ///< So many, however long they take, and no warm-up; 0: by time.
  Watch watch = {};              ///< Empty: nobody watches.
};

/// Full handshake, login and close, again and again; reports logins per second and their cost.
[[nodiscard]] client::Outcome<Report> run_login(const LoginOptions& options,
                                                const ServerProcess& server);

}  // namespace detour::load
