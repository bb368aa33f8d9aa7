#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "client/client.h"
#include "client/failure.h"

namespace detour::client {

struct RoundTripOptions {
  DialOptions dial;  ///< Its key is not used: two throw-away keys log in.
  /// Where the second one logs in, when that is another relay of the region.
  std::optional<DialOptions> other = std::nullopt;
  std::uint32_t count = 5;  ///< Packets, one after the other.
  std::uint32_t size = 100;
  Duration timeout = std::chrono::seconds(5);  ///< For each packet, there and back.
};

struct RoundTrips {
  RelayInfo relay;                      ///< As the first of the two clients saw it.
  std::optional<RelayInfo> other = {};  ///< The second client's, when it logs in elsewhere.
  std::uint32_t sent = 0;
  std::uint32_t corrupt = 0;  ///< Came with other bytes, or from another key, than they left with.
  std::vector<Duration> times = {};  ///< Of those that came back intact.

  [[nodiscard]] bool all_arrived() const { return sent > 0 && times.size() == sent; }
};

/// Called after each packet with its number (from 1) and its round trip; nullopt when it is lost.
/// Whether to go on with the next.
using OnRoundTrip = std::function<bool(std::uint32_t, std::optional<Duration>)>;
/// Called for each relay once its clients are logged in.
using OnLogin = std::function<void(const RelayInfo&)>;

/// Proves that a relay relays, or that two relays of a region forward to each other: logs two
/// throw-away keys in and sends packets of random bytes from one to the other and back. Fails when
/// the login or a connection fails; a packet that is lost or damaged is counted instead.
[[nodiscard]] Outcome<RoundTrips> measure_round_trips(const RoundTripOptions& options,
                                                      const OnLogin& on_login,
                                                      const OnRoundTrip& on_round_trip);

}  // namespace detour::client
