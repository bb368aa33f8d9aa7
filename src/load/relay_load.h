#pragma once

#include <chrono>
#include <cstdint>

#include "client/failure.h"
#include "load/connection.h"
#include "load/progress.h"
#include "load/report.h"
#include "load/server_process.h"

namespace detour::load {

/// How packets become TLS records and writes.
enum class Packing : std::uint8_t {
  kPacket,    ///< One record and one send() for each packet, as Go clients do.
  kCoalesce,  ///< One record for each packet, one send() for all that the window allows.
  kBulk,      ///< Packets packed into full records, one send().
};

/// Traffic of one kind: `senders` to `receivers`, in as many flows as the larger of the two.
struct Traffic {
  std::uint32_t senders = 10;
  std::uint32_t receivers = 10;
  std::uint32_t payload_bytes = 1400;
  std::uint32_t window = 24;  ///< Packets in flight per flow.
  Packing packing = Packing::kPacket;
  double packets_per_second = 0;  ///< Of all flows together; 0 = as fast as the window allows.
};

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
