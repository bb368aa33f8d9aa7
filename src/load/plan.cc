#include "load/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <span>
#include <utility>

namespace detour::load {

namespace {

struct Unit {
  std::string_view name;
  double factor;
};
constexpr std::array kRateUnits =
    std::to_array<Unit>({{"gbit", 1e9}, {"mbit", 1e6}, {"kbit", 1e3}, {"bit", 1}});

/// So long a packet may take before the window of an evenly paced pair is full, in seconds.
constexpr double kPacedWindowSeconds = 2;
constexpr double kPacedWindowMin = 64;
constexpr double kWindowMax = 65536;

constexpr std::string_view kHeavyAdvice =
    "If the relay and the way to it are yours to load, add --heavy";

std::string scaled(double value, std::span<const Unit> units) {
  for (const auto& [name, factor] : units) {
    if (value >= factor || factor == units.back().factor)
      return fmt::format("{:.4g} {}", value / factor, name);
  }
  return {};
}

std::optional<std::string> check_range(const Plan& plan, const PlanLimits& limits) {
  if (plan.pairs > limits.pairs)
    return fmt::format("--pairs {} is more than {}", plan.pairs, limits.pairs);
  if (plan.bits_per_second == 0 && !limits.without_rate)
    return std::string("--rate max sends as fast as the relay takes it");
  if (plan.bits_per_second > limits.bits_per_second)
    return fmt::format("--rate {} is more than {}", rate_text(plan.bits_per_second),
                       rate_text(limits.bits_per_second));
  if (plan.seconds > limits.seconds)
    return fmt::format("--seconds {:g} is more than {:g}", plan.seconds, limits.seconds);
  if (plan.rounds > limits.rounds)
    return fmt::format("--rounds {} is more than {}", plan.rounds, limits.rounds);
  if (plan.logins > limits.logins)
    return fmt::format("--logins {} is more than {}", plan.logins, limits.logins);
  return std::nullopt;
}

}  // namespace

std::expected<double, std::string> parse_rate(std::string_view text) {
  constexpr std::string_view kAdvice =
      "write a number and a unit, as 800kbit, 50mbit or 2.5gbit, or max";
  const auto wrong = [&] { return std::unexpected(fmt::format("--rate {}: {}", text, kAdvice)); };
  if (text == "max") return 0.0;
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || !std::isfinite(number) || number <= 0) return wrong();
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  const auto* found = std::ranges::find(kRateUnits, unit, &Unit::name);
  if (found == kRateUnits.end()) return wrong();
  return number * found->factor;
}

std::optional<std::string> refusal_of(const Plan& plan, bool heavy) {
  if (auto beyond = check_range(plan, kHeavyLimits)) return beyond;
  if (heavy) return std::nullopt;
  if (const auto beyond = check_range(plan, kPoliteLimits))
    return fmt::format("{}. {}", *beyond, kHeavyAdvice);
  return std::nullopt;
}

double seconds_of_traffic(const Plan& plan) {
  return plan.servers * plan.rounds * (plan.seconds + kWarmUpSeconds);
}

std::optional<double> bytes_to_send(const Plan& plan) {
  if (plan.bits_per_second == 0) return std::nullopt;
  return plan.bits_per_second / 8 * plan.rounds * (plan.seconds + kWarmUpSeconds);
}

std::string describe(const Plan& plan) {
  const auto bytes = bytes_to_send(plan);
  std::string text = fmt::format(
      "{} pairs of throw-away clients send packets of {} bytes, {}, for {:g} s{}: {} up and "
      "as much down again{}",
      plan.pairs, plan.packet_bytes,
      plan.bits_per_second == 0 ? rate_text(0) : rate_text(plan.bits_per_second) + " in all",
      seconds_of_traffic(plan),
      plan.rounds * plan.servers > 1
          ? fmt::format(" ({} rounds{})", plan.rounds, plan.servers > 1 ? " of each relay" : "")
          : "",
      bytes ? bytes_text(*bytes) : "all that goes", plan.servers > 1 ? ", for each relay" : "");
  if (plan.stun)
    text += fmt::format("; then {:g} STUN requests a second for {:g} s", kStunRequestsPerSecond,
                        plan.seconds);
  if (plan.logins > 0)
    text += fmt::format("; then {} logins, {} at a time", plan.logins, kLoginsAtATime);
  return text;
}

Traffic traffic_of(const Plan& plan) {
  const double packets_per_second = plan.bits_per_second / 8 / plan.packet_bytes;
  Traffic traffic{.senders = plan.pairs,
                  .receivers = plan.pairs,
                  .payload_bytes = plan.packet_bytes,
                  .window = plan.window,
                  .packets_per_second = packets_per_second};
  if (packets_per_second > 0)
    traffic.window = static_cast<std::uint32_t>(
        std::clamp(std::ceil(packets_per_second / plan.pairs * kPacedWindowSeconds),
                   kPacedWindowMin, kWindowMax));
  return traffic;
}

std::string bytes_text(double bytes) {
  static constexpr std::array kUnits =
      std::to_array<Unit>({{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"bytes", 1}});
  return scaled(bytes, kUnits);
}

std::string rate_text(double bits_per_second) {
  static constexpr std::array kUnits =
      std::to_array<Unit>({{"Gbit/s", 1e9}, {"Mbit/s", 1e6}, {"kbit/s", 1e3}, {"bit/s", 1}});
  if (bits_per_second == 0) return "as fast as it goes";
  return scaled(bits_per_second, kUnits);
}

}  // namespace detour::load
