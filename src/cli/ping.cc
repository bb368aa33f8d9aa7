#include "cli/ping.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <expected>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "client/advice.h"
#include "client/round_trip.h"
#include "client/tls_stream.h"
#include "crypto/keys.h"
#include "derp/frame.h"

namespace detour::cli {

namespace {

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;
constexpr std::uint32_t kCountMax = 100'000;

using Json = nlohmann::ordered_json;

struct Arguments {
  std::string target;
  std::string pin;
  bool insecure = false;
  std::string authorities_file;
  std::string server_name;
  std::uint32_t count = 5;
  std::uint32_t size = 100;
  double timeout_seconds = 5;
  bool json = false;
};

double milliseconds(Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

/// What a target names, apart from how it is trusted.
struct Target {
  std::string host;
  std::uint16_t port;
  bool use_tls;
};

/// Reads `[https://]host[:port]` and `http://host[:port]`; IPv6 addresses stand in brackets when a
/// port follows. Gives what is wrong otherwise.
std::expected<Target, std::string> parse_target(std::string_view text) {
  Target target{.host = {}, .port = 443, .use_tls = true};
  constexpr std::string_view kHttps = "https://";
  constexpr std::string_view kHttp = "http://";
  if (text.starts_with(kHttps)) {
    text.remove_prefix(kHttps.size());
  } else if (text.starts_with(kHttp)) {
    text.remove_prefix(kHttp.size());
    target.use_tls = false;
    target.port = 80;
  }
  if (const auto slash = text.find('/'); slash != std::string_view::npos) {
    const auto path = text.substr(slash);
    if (path != "/" && path != "/derp")
      return std::unexpected(fmt::format("leave '{}' out: relays answer at /derp only", path));
    text = text.substr(0, slash);
  }

  std::string_view port;
  const bool has_brackets = text.starts_with('[') && text.find(']') != std::string_view::npos;
  const std::size_t colon = text.rfind(':');
  if (has_brackets) {
    const std::size_t end = text.find(']');
    target.host = text.substr(1, end - 1);
    const auto rest = text.substr(end + 1);
    if (!rest.empty() && !rest.starts_with(':'))
      return std::unexpected(fmt::format("'{}' follows the address in brackets", rest));
    if (!rest.empty()) port = rest.substr(1);
    if (rest == ":") return std::unexpected("the port is missing behind ':'");
  } else if (colon != std::string_view::npos && text.find(':') == colon) {
    target.host = text.substr(0, colon);
    port = text.substr(colon + 1);
    if (port.empty()) return std::unexpected("the port is missing behind ':'");
  } else {
    target.host = text;  // A name, or an IPv6 address without port.
  }
  if (target.host.empty()) return std::unexpected("the host is missing");
  if (port.empty()) return target;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), target.port);
  if (error != std::errc{} || end != port.data() + port.size() || target.port == 0)
    return std::unexpected(fmt::format("'{}' is not a port (1 to 65535)", port));
  return target;
}

std::expected<client::Trust, std::string> parse_trust(const Arguments& args) {
  if (args.insecure) return client::Trust{.kind = client::Trust::Kind::kAnyone};
  if (args.pin.empty())
    return client::Trust{.kind = client::Trust::Kind::kAuthorities,
                         .authorities_file = args.authorities_file};
  const auto pin = client::parse_pin(args.pin);
  if (!pin) return std::unexpected("--pin takes sha256-raw: and 64 hex digits");
  return client::Trust{.kind = client::Trust::Kind::kPin, .pin = *pin};
}

std::expected<client::RoundTripOptions, std::string> parse_options(const Arguments& args) {
  const auto target = parse_target(args.target);
  if (!target) return std::unexpected(fmt::format("'{}': {}", args.target, target.error()));
  auto trust = parse_trust(args);
  if (!trust) return std::unexpected(trust.error());
  const auto timeout =
      std::chrono::milliseconds(static_cast<std::int64_t>(args.timeout_seconds * 1000));
  client::DialOptions dial{.host = target->host, .port = target->port, .use_tls = target->use_tls};
  dial.tls.trust = std::move(*trust);
  dial.timeout = timeout;
  if (!args.server_name.empty()) dial.server_name = args.server_name;
  return client::RoundTripOptions{
      .dial = std::move(dial), .count = args.count, .size = args.size, .timeout = timeout};
}

std::string transport_text(const client::RelayInfo& relay) {
  if (relay.tls_version.empty()) return "no TLS";
  return fmt::format("{} {}", relay.tls_version, relay.cipher);
}

void print_login(const client::RelayInfo& relay) {
  fmt::print("relay {} with key {} ({}{})\n", relay.address, relay.key.typed(),
             transport_text(relay), relay.used_fast_start ? ", fast start" : "");
  fmt::print("login: TCP {:.2f} ms, TLS {:.2f} ms, DERP {:.2f} ms\n", milliseconds(relay.times.tcp),
             milliseconds(relay.times.tls), milliseconds(relay.times.login));
}

void print_round_trip(std::uint32_t number, std::uint32_t size, std::optional<Duration> time) {
  if (time) {
    fmt::print("packet {}: {} bytes there and back in {:.3f} ms\n", number, size,
               milliseconds(*time));
  } else {
    fmt::print("packet {}: did not come back intact\n", number);
  }
  std::fflush(stdout);
}

struct Summary {
  double lowest_ms = 0;
  double average_ms = 0;
  double highest_ms = 0;
};

Summary summarize(const std::vector<Duration>& times) {
  if (times.empty()) return {};
  const auto [lowest, highest] = std::ranges::minmax_element(times);
  const Duration sum = std::accumulate(times.begin(), times.end(), Duration{});
  return {.lowest_ms = milliseconds(*lowest),
          .average_ms = milliseconds(sum) / static_cast<double>(times.size()),
          .highest_ms = milliseconds(*highest)};
}

void print_summary(const client::RoundTrips& result) {
  fmt::print("{} of {} packets came back intact", result.times.size(), result.sent);
  if (result.corrupt > 0) fmt::print(", {} damaged", result.corrupt);
  const auto [lowest, average, highest] = summarize(result.times);
  if (!result.times.empty())
    fmt::print("; round trip {:.3f} ms on average ({:.3f} to {:.3f})", average, lowest, highest);
  fmt::print("\n");
}

Json relay_json(const client::RelayInfo& relay) {
  return {{"address", relay.address},
          {"key", relay.key.typed()},
          {"tls_version", relay.tls_version},
          {"cipher", relay.cipher},
          {"pin", relay.leaf_sha256 ? client::format_pin(*relay.leaf_sha256) : ""},
          {"meta_certificate", relay.has_meta_certificate},
          {"fast_start", relay.used_fast_start},
          {"tcp_ms", milliseconds(relay.times.tcp)},
          {"tls_ms", milliseconds(relay.times.tls)},
          {"login_ms", milliseconds(relay.times.login)}};
}

Json result_json(const client::RoundTrips& result) {
  Json times = Json::array();
  for (const Duration time : result.times) times.push_back(milliseconds(time));
  const auto [lowest, average, highest] = summarize(result.times);
  return {{"ok", result.all_arrived()}, {"relay", relay_json(result.relay)},
          {"sent", result.sent},        {"intact", result.times.size()},
          {"damaged", result.corrupt},  {"round_trip_ms", std::move(times)},
          {"lowest_ms", lowest},        {"average_ms", average},
          {"highest_ms", highest}};
}

Json failure_json(const client::Failure& failure) {
  return {{"ok", false},
          {"layer", client::layer_name(failure.layer)},
          {"error", failure.message},
          {"advice", client::advice(failure)},
          {"http_status", failure.http_status},
          {"pin", failure.certificate_pin}};
}

int report_failure(const client::Failure& failure, const Arguments& args) {
  if (args.json) {
    fmt::print("{}\n", failure_json(failure).dump(2));
    return kExitFailed;
  }
  std::fflush(stdout);
  fmt::print(stderr, "detour ping: {}: {}\n", args.target, failure.text());
  if (const std::string advice = client::advice(failure); !advice.empty())
    fmt::print(stderr, "  {}\n", advice);
  return kExitFailed;
}

void add_options(CLI::App* app, Arguments* args) {
  app->add_option("target", args->target,
                  "The relay: [https://]HOST[:PORT], or http:// without TLS")
      ->required();
  auto* pin = app->add_option(
      "--pin", args->pin, "Trust exactly this certificate: sha256-raw:HEX, as the relay prints");
  auto* insecure = app->add_flag("--insecure", args->insecure, "Trust any certificate");
  auto* authorities = app->add_option("--authorities", args->authorities_file,
                                      "PEM file of the authorities to trust, not the system's");
  pin->excludes(insecure)->excludes(authorities);
  insecure->excludes(authorities);
  app->add_option("--server-name", args->server_name, "TLS server name (SNI) to send");
  app->add_option("--count", args->count, "Packets to send there and back")
      ->capture_default_str()
      ->check(CLI::Range(1U, kCountMax));
  app->add_option("--size", args->size, "Bytes in each")
      ->capture_default_str()
      ->check(CLI::Range(std::size_t{0}, derp::kPacketSizeMax));
  app->add_option("--timeout", args->timeout_seconds, "Seconds for the login, and for each packet")
      ->capture_default_str()
      ->check(CLI::Range(0.1, 60.0));
  app->add_flag("--json", args->json, "Print one JSON object");
}

}  // namespace

int run_ping(const Call& call) {
  Arguments arguments;
  CLI::App app{"Proves that a relay relays: two throw-away keys log in, packets go both ways.",
               call.program + " ping"};
  add_options(&app, &arguments);
  try {
    // CLI11 takes the arguments last first.
    app.parse(std::vector<std::string>(call.args.rbegin(), call.args.rend()));
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  const auto options = parse_options(arguments);
  if (!options) {
    fmt::print(stderr, "{} ping: {}\n", call.program, options.error());
    return kExitUsage;
  }
  if (!crypto::init()) {
    fmt::print(stderr, "{} ping: the crypto library cannot be used\n", call.program);
    return kExitFailed;
  }

  client::OnLogin on_login;
  client::OnRoundTrip on_round_trip;
  if (!arguments.json) {
    on_login = print_login;
    on_round_trip = [size = arguments.size](std::uint32_t number, std::optional<Duration> time) {
      print_round_trip(number, size, time);
    };
  }
  const auto result = client::measure_round_trips(*options, on_login, on_round_trip);
  if (!result) return report_failure(result.error(), arguments);
  if (arguments.json) {
    fmt::print("{}\n", result_json(*result).dump(2));
  } else {
    print_summary(*result);
  }
  std::fflush(stdout);
  return result->all_arrived() ? 0 : kExitFailed;
}

}  // namespace detour::cli
