#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

#include "load/relay_load.h"

namespace detour::load {

/// Seconds of traffic in each round before the measured ones.
inline constexpr double kWarmUpSeconds = 1;
inline constexpr double kStunRequestsPerSecond = 100;
inline constexpr std::uint32_t kLoginsAtATime = 4;

/// What an operator has asked for: a measured load on one relay or, in turn, on two.
struct Plan {
  std::uint32_t servers = 1;
  std::uint32_t pairs = 10;
  double bits_per_second = 50e6;  ///< Of payload, of all pairs together; 0 = as fast as it goes.
  std::uint32_t packet_bytes = 1400;
  std::uint32_t window = 24;  ///< Packets in flight of each pair, without a rate.
  double seconds = 10;        ///< Measured in each round.
  std::uint32_t rounds = 1;
  std::uint32_t logins = 0;  ///< Of each server and round; 0 = not measured.
  bool stun = false;
};

/// What may be asked for.
struct PlanLimits {
  std::uint32_t pairs;
  double bits_per_second;
  double seconds;
  std::uint32_t rounds;
  std::uint32_t logins;
  bool without_rate;  ///< As fast as it goes.
};
/// Without saying more: nothing that a relay in service would notice much.
inline constexpr PlanLimits kPoliteLimits{.pairs = 100,
                                          .bits_per_second = 200e6,
                                          .seconds = 60,
                                          .rounds = 10,
                                          .logins = 500,
                                          .without_rate = false};
/// For those who say that the relay is theirs to load.
inline constexpr PlanLimits kHeavyLimits{.pairs = 5000,
                                         .bits_per_second = 100e9,
                                         .seconds = 600,
                                         .rounds = 100,
                                         .logins = 1'000'000,
                                         .without_rate = true};

/// Reads `50mbit`, `2.5gbit`, `800kbit`, `9000bit` (decimal units, of a second), or `max`, which is
/// 0. Fails with what to write.
[[nodiscard]] std::expected<double, std::string> parse_rate(std::string_view text);

/// What is beyond the limits, and what to do about it; nullopt when nothing is.
[[nodiscard]] std::optional<std::string> refusal_of(const Plan& plan, bool heavy);

/// Bytes of payload that each server gets, and sends on, in all rounds; nullopt without a rate.
[[nodiscard]] std::optional<double> bytes_to_send(const Plan& plan);
/// How long all of it takes, without logging in, measured logins and STUN.
[[nodiscard]] double seconds_of_traffic(const Plan& plan);

/// What will be sent, in words for whoever waits for it, without a line end.
[[nodiscard]] std::string describe(const Plan& plan);

/// The plan's traffic. With a rate nobody waits for packets to arrive before more are sent.
[[nodiscard]] Traffic traffic_of(const Plan& plan);

/// "62.5 MB", "1.2 GB".
[[nodiscard]] std::string bytes_text(double bytes);
/// "50 Mbit/s".
[[nodiscard]] std::string rate_text(double bits_per_second);

}  // namespace detour::load
