#pragma once

#include <chrono>
#include <cstdint>

#include "client/failure.h"
#include "load/connection.h"
#include "load/progress.h"
#include "load/report.h"
#include "load/server_process.h"
#include "load/traffic.h"

namespace detour::load {

struct RelayOptions {
  ConnectionSettings connection;
  Traffic traffic = {};
  /// Runs beside `traffic` in threads of its own and is reported apart; 0 senders = none.
  Traffic background = {.senders = 0, .receivers = 0};
  std::uint32_t threads = 1;  ///< For `traffic`; its flows are dealt out to them.
  std::chrono::milliseconds warm_up{1000};
  std::chrono::milliseconds duration{5000};
  /// A packet that has not arrived by then is lost and its place in the window is free again.
  std::chrono::milliseconds loss_after{500};
  /// Poll instead of sleeping while waiting, so that our own wake-ups are not measured.
  bool spin = false;
  /// Clients that are logged in all the time and silent.
  std::uint32_t bystanders = 0;
  Watch watch = {};  ///< Empty: nobody watches.
};

/// Runs the load and reports; "stopped" is in the report when the watch ended it early. Fails when
/// a connection fails before the end.
[[nodiscard]] client::Outcome<Report> run_relay(const RelayOptions& options,
                                                const ServerProcess& server);

}  // namespace detour::load
