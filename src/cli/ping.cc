#include "cli/ping.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <expected>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/duration.h"
#include "cli/arguments.h"
#include "cli/terminal.h"
#include "client/advice.h"
#include "client/round_trip.h"
#include "client/tls_stream.h"
#include "crypto/keys.h"
#include "derp/frame.h"
#include "doctor/derp_map.h"
#include "doctor/target.h"

namespace detour::cli {

namespace {

constexpr std::uint32_t kCountMax = 100'000;

using Json = nlohmann::ordered_json;

struct Arguments {
  std::vector<std::string> targets;
  std::vector<std::string> maps;
  std::optional<int> region;
  std::string pin;
  bool insecure = false;
  std::string authorities_file;
  std::string server_name;
  std::uint32_t count = 5;
  std::uint32_t size = 100;
  double timeout_seconds = 5;
  bool json = false;
};

std::expected<client::Trust, std::string> parse_trust(const Arguments& args) {
  if (args.insecure) return client::Trust{.kind = client::Trust::Kind::kAnyone};
  if (args.pin.empty())
    return client::Trust{.kind = client::Trust::Kind::kAuthorities,
                         .authorities_file = args.authorities_file};
  const auto pin = client::parse_pin(args.pin);
  if (!pin) return std::unexpected("--pin takes sha256-raw: and 64 hex digits");
  return client::Trust{.kind = client::Trust::Kind::kPin, .pin = *pin};
}

/// How to log in at one relay.
client::DialOptions dial_options(const doctor::Target& target, client::Trust trust,
                                 const Arguments& args, Duration timeout) {
  client::DialOptions dial{.host = target.host, .port = target.port, .use_tls = target.use_tls};
  for (const auto* address : {&target.ipv4, &target.ipv6}) {
    if (dial.address.empty() && *address != "none") dial.address = *address;
  }
  dial.tls.trust = std::move(trust);
  dial.timeout = timeout;
  if (!args.server_name.empty()) dial.server_name = args.server_name;
  return dial;
}

/// What a map says about trust.
client::Trust trust_of(const doctor::Target& target, const Arguments& args) {
  if (target.insecure) return {.kind = client::Trust::Kind::kAnyone};
  if (target.pin) return {.kind = client::Trust::Kind::kPin, .pin = *target.pin};
  return {.kind = client::Trust::Kind::kAuthorities, .authorities_file = args.authorities_file};
}

/// The relays to log in at: one or two.
std::expected<std::vector<client::DialOptions>, std::string> parse_relays(const Arguments& args,
                                                                          Duration timeout) {
  std::vector<client::DialOptions> relays;
  for (const auto& text : args.targets) {
    const auto target = doctor::parse_target(text);
    if (!target) return std::unexpected(target.error());
    auto trust = parse_trust(args);
    if (!trust) return std::unexpected(trust.error());
    relays.push_back(dial_options(*target, std::move(*trust), args, timeout));
  }
  if (args.maps.empty()) return relays;
  if (!relays.empty()) return std::unexpected("name relays, or a map with --region, not both");
  doctor::DerpMap map;
  for (const auto& path : args.maps) {
    const auto parsed = doctor::read_map(path);
    if (!parsed) return std::unexpected(fmt::format("{}: {}", path, parsed.error()));
    if (auto merged = doctor::merge_map(&map, doctor::lint_map(parsed->map).corrected); !merged)
      return std::unexpected(merged.error());
  }
  if (!args.region && map.regions.size() != 1)
    return std::unexpected("the map has several regions: choose one with --region");
  for (const auto& target : doctor::targets_of(map, args.region)) {
    if (target.relays && relays.size() < 2)
      relays.push_back(dial_options(target, trust_of(target, args), args, timeout));
  }
  if (relays.empty()) return std::unexpected("the map has no such region with a node that relays");
  return relays;
}

std::expected<client::RoundTripOptions, std::string> parse_options(const Arguments& args) {
  const auto timeout =
      std::chrono::milliseconds(static_cast<std::int64_t>(args.timeout_seconds * 1000));
  auto relays = parse_relays(args, timeout);
  if (!relays) return std::unexpected(relays.error());
  if (relays->empty())
    return std::unexpected(
        "name a relay or a map: detour ping https://HOST:PORT, or detour ping --map FILE");
  client::RoundTripOptions options{.dial = std::move(relays->front()),
                                   .count = args.count,
                                   .size = args.size,
                                   .timeout = timeout};
  if (relays->size() > 1) options.other = std::move(relays->back());
  return options;
}

std::string transport_text(const client::RelayInfo& relay) {
  if (relay.tls_version.empty()) return "no TLS";
  return fmt::format("{} {}", relay.tls_version, relay.cipher);
}

void print_login(const client::RelayInfo& relay) {
  clear_progress();
  fmt::print("relay {} with key {} ({}{})\n", relay.address, relay.key.typed(),
             transport_text(relay), relay.used_fast_start ? ", fast start" : "");
  fmt::print("login: TCP {:.2f} ms, TLS {:.2f} ms, DERP {:.2f} ms\n",
             in_milliseconds(relay.times.tcp), in_milliseconds(relay.times.tls),
             in_milliseconds(relay.times.login));
  std::fflush(stdout);
}

void print_round_trip(std::uint32_t number, std::uint32_t size, std::optional<Duration> time) {
  if (time) {
    fmt::print("packet {}: {} bytes there and back in {:.3f} ms\n", number, size,
               in_milliseconds(*time));
  } else {
    fmt::print("packet {}: {}\n", number, coloured("did not come back intact", Colour::kRed));
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
  return {.lowest_ms = in_milliseconds(*lowest),
          .average_ms = in_milliseconds(sum) / static_cast<double>(times.size()),
          .highest_ms = in_milliseconds(*highest)};
}

void print_summary(const client::RoundTrips& result) {
  const Colour colour = result.all_arrived()   ? Colour::kGreen
                        : result.times.empty() ? Colour::kRed
                                               : Colour::kYellow;
  fmt::print("{}", coloured(fmt::format("{} of {} packets came back intact", result.times.size(),
                                        result.sent),
                            colour));
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
          {"tcp_ms", in_milliseconds(relay.times.tcp)},
          {"tls_ms", in_milliseconds(relay.times.tls)},
          {"login_ms", in_milliseconds(relay.times.login)}};
}

Json result_json(const client::RoundTrips& result) {
  Json times = Json::array();
  for (const Duration time : result.times) times.push_back(in_milliseconds(time));
  const auto [lowest, average, highest] = summarize(result.times);
  return {{"ok", result.all_arrived()},
          {"relay", relay_json(result.relay)},
          {"other_relay", result.other ? relay_json(*result.other) : Json(nullptr)},
          {"sent", result.sent},
          {"intact", result.times.size()},
          {"damaged", result.corrupt},
          {"round_trip_ms", std::move(times)},
          {"lowest_ms", lowest},
          {"average_ms", average},
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
  const std::string name =
      fmt::format("{}", fmt::join(args.targets.empty() ? args.maps : args.targets, ", "));
  fmt::print(stderr, "detour ping: {}: {}\n", name, failure.text());
  if (const std::string advice = client::advice(failure); !advice.empty())
    fmt::print(stderr, "  {}\n", advice);
  return kExitFailed;
}

void add_options(CLI::App* app, Arguments* args) {
  app->add_option("targets", args->targets,
                  "The relay: [https://]HOST[:PORT], or http:// without TLS. Two relays of one "
                  "region: from a key at the first to a key at the second")
      ->expected(0, 2);
  app->add_option("--map", args->maps,
                  "Take the first relays of a region from this map; - reads standard input");
  app->add_option("--region", args->region, "Which region of the map");
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
  app->footer(
      "Ctrl-C ends it with the summary of what was sent.\n\n"
      "Examples:\n"
      "  detour ping https://derp.example.com\n"
      "  detour ping https://203.0.113.7:8443 --pin sha256-raw:HEX --size 65536\n"
      "  detour ping https://a.example.com https://b.example.com    from one to the other\n"
      "  detour ping --map policy.hujson --region 900");
}

}  // namespace

int ping_status(const client::RoundTrips& result) {
  if (result.all_arrived()) return kExitFine;
  return result.times.empty() ? kExitFailed : kExitWarnings;
}

int run_ping(const Call& call) {
  Arguments arguments;
  CLI::App app{
      "Proves that a relay relays: two throw-away keys log in, packets go both ways.\n"
      "Exit status: 0 all came back, 1 some did, 2 none, no login, or not understood.",
      call.program + " ping"};
  add_options(&app, &arguments);
  if (const auto status = parse_arguments(app, call.args)) return *status;
  const auto options = parse_options(arguments);
  if (!options) return usage_error(call, "ping", options.error());
  if (!crypto::init()) {
    fmt::print(stderr, "{} ping: the crypto library cannot be used\n", call.program);
    return kExitFailed;
  }

  const client::OnLogin on_login = [&arguments](const client::RelayInfo& relay) {
    if (!arguments.json) print_login(relay);
    end_on_interrupt(/*patience=*/1);  // From here on there is something to sum up.
  };
  const client::OnRoundTrip on_round_trip = [&arguments](std::uint32_t number,
                                                         std::optional<Duration> time) {
    if (!arguments.json) print_round_trip(number, arguments.size, time);
    return !interrupted();
  };
  if (!arguments.json) show_progress("logging in");
  end_on_interrupt();
  const auto result = client::measure_round_trips(*options, on_login, on_round_trip);
  clear_progress();
  if (!result) return report_failure(result.error(), arguments);
  if (arguments.json) {
    fmt::print("{}\n", result_json(*result).dump(2));
  } else {
    print_summary(*result);
  }
  std::fflush(stdout);
  return ping_status(*result);
}

}  // namespace detour::cli
