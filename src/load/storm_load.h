#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

#include "client/failure.h"
#include "load/connection.h"
#include "load/report.h"

namespace detour::load {

struct StormOptions {
  ConnectionSettings connection;
  std::uint32_t pairs = 500;
  /// All must relay again by then.
  std::chrono::milliseconds time_max = std::chrono::minutes(2);
};

/// Logs pairs of clients in, proves that each relays, and calls `on_ready`: from then on the server
/// may be killed and started again at the same address. Whoever loses its connection comes back at
/// once, as often as it takes. Reports how long it took from the first connection that was accepted
/// again until all pairs relayed.
[[nodiscard]] client::Outcome<Report> run_storm(const StormOptions& options,
                                                const std::function<void()>& on_ready);

}  // namespace detour::load
