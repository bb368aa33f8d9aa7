#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "client/client.h"
#include "crypto/keys.h"

namespace detour::doctor {

struct ProofOptions {
  client::DialOptions dial;  ///< Its key is not used.
  /// Logs in with this key and sends packets to itself, instead of between two throw-away keys: for
  /// a relay that admits only keys it knows.
  std::optional<crypto::NodePrivate> key = std::nullopt;
  Duration packet_timeout = std::chrono::seconds(5);
  Duration throughput_time{};  ///< Zero: throughput is not measured.
};

/// What came of relaying.
struct Proof {
  enum class End : std::uint8_t {
    kDone,
    kRefused,  ///< The relay ended the connection at the login.
    kNoLogin,  ///< The login failed otherwise: see `failure`.
  };
  End end = End::kDone;
  std::string failure;
  std::uint32_t sent = 0;
  std::uint32_t arrived = 0;  ///< Intact.
  std::uint32_t damaged = 0;
  bool in_order = true;
  std::vector<std::uint32_t> sizes;       ///< Tried.
  std::vector<std::uint32_t> lost_sizes;  ///< Of which at least one did not arrive.
  Duration round_trip{};                  ///< The best of several small packets.
  double bits_per_second = 0;
};

/// Sends packets of 1, 1400 and 65536 bytes each way, a numbered row of small ones, and on request
/// as much as goes through for a while.
[[nodiscard]] Proof prove_relay(const ProofOptions& options);

}  // namespace detour::doctor
