#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "crypto/keys.h"
#include "doctor/report.h"
#include "doctor/target.h"
#include "net/address.h"

namespace detour::doctor {

/// A client gives a node this long for its TCP connection.
inline constexpr Duration kClientDialLimit = std::chrono::milliseconds(1500);

struct ProbeOptions {
  /// Asked for the name instead of the system's resolver; answers of several are compared.
  std::vector<net::SocketAddress> resolvers;
  /// Dial the addresses of the target without looking its name up.
  bool skip_dns = false;
  /// Measure throughput for a few seconds.
  bool throughput = false;
  Duration throughput_time = std::chrono::seconds(5);
  Duration timeout = std::chrono::seconds(5);  ///< For each answer.
  /// A key that the relay should admit, for one that refuses strangers.
  std::optional<crypto::NodePrivate> known_key;
};

/// Checks one node from here as clients would use it, from DNS to relayed packets, and adds what it
/// finds to `report` (whose section has begun).
void probe_relay(const Target& target, const ProbeOptions& options, Report& report);

}  // namespace detour::doctor
