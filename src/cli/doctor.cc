#include "cli/doctor.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/arguments.h"
#include "cli/control_client.h"
#include "cli/hand_over.h"
#include "cli/relay_key.h"
#include "cli/terminal.h"
#include "cli/version.h"
#include "config/address.h"
#include "config/control_socket.h"
#include "crypto/keys.h"
#include "doctor/check_server.h"
#include "doctor/derp_map.h"
#include "doctor/judge_status.h"
#include "doctor/probe_relay.h"
#include "doctor/proxies.h"
#include "doctor/report.h"
#include "doctor/target.h"

namespace detour::cli {
namespace {

constexpr std::string_view kName = "doctor";
constexpr std::uint16_t kDnsPort = 53;

struct Arguments {
  std::string target;
  std::vector<std::string> maps;
  std::optional<int> region;
  std::string pin;
  bool insecure = false;
  std::string authorities_file;
  std::string stun_port;
  std::optional<std::uint16_t> http_port;
  std::vector<std::string> resolvers;
  bool throughput = false;
  std::string key_file;
  double timeout_seconds = 5;
  bool json = false;
  bool list_codes = false;
  bool local = false;
  std::optional<int> pid;
  std::string user;
  /// Behind `--`: options of `detour serve`.
  std::vector<std::string> serve;
  bool has_serve = false;
};

void add_options(CLI::App* app, Arguments* args) {
  app->add_option("target", args->target,
                  "The relay: [https://]HOST[:PORT], or http:// without TLS");
  app->add_option("--map", args->maps,
                  "Check this DERP map (policy file, JSON or Headscale's YAML) and its nodes, or "
                  "take from it what is known of the target; - reads standard input");
  app->add_option("--region", args->region, "Only this region of the map");
  auto* pin =
      app->add_option("--pin", args->pin, "The pin that the map has for it: sha256-raw:HEX");
  auto* insecure = app->add_flag("--insecure", args->insecure, "Do not judge whom clients trust");
  auto* authorities = app->add_option("--authorities", args->authorities_file,
                                      "PEM file of the authorities to trust, not the system's");
  pin->excludes(insecure)->excludes(authorities);
  insecure->excludes(authorities);
  app->add_option("--stun-port", args->stun_port, "UDP port of STUN (default 3478), or off");
  app->add_option("--http-port", args->http_port,
                  "Check generate_204 on this port (the map's CanPort80 asks for 80)");
  app->add_option("--resolver", args->resolvers,
                  "Ask this DNS server, IP[:PORT], instead of the system's; several are compared");
  app->add_flag("--throughput", args->throughput, "Estimate the throughput, for 5 seconds");
  app->add_option("--key-file", args->key_file,
                  "Prove relaying with the key of this file, for a relay that refuses strangers; "
                  "made when it is not there");
  app->add_option("--timeout", args->timeout_seconds, "Seconds for each answer")
      ->capture_default_str()
      ->check(CLI::Range(0.1, 60.0));
  app->add_flag("--json", args->json, "Print one JSON object");
  app->add_flag("--local", args->local,
                "Check this machine, its configuration and the relay that runs here, also with a "
                "map; the same as naming neither a relay nor a map");
  app->add_option("--pid", args->pid, "The relay that runs as this process");
  app->add_option("--user", args->user, "The user of the service, when it does not run");
  app->footer(
      "Behind -- stand the options of `detour serve` for the configuration to check, where "
      "it is not that of the running relay.\n\n"
      "Examples:\n"
      "  sudo detour doctor                            the relay of this machine\n"
      "  detour doctor -- --config FILE                one that does not run yet\n"
      "  detour doctor https://derp.example.com        any DERP server, from anywhere\n"
      "  detour doctor https://203.0.113.7:8443 --stun-port 3479 --pin sha256-raw:HEX\n"
      "  detour doctor --map policy.hujson             a map, and every relay in it");
  app->add_flag("--codes", args->list_codes, "List the codes of all checks");
}

/// `1.1.1.1`, `1.1.1.1:53`, `[2606:4700:4700::1111]:53`.
std::optional<net::SocketAddress> parse_resolver(const std::string& text) {
  if (const auto plain = net::SocketAddress::parse(text, kDnsPort); plain && !text.empty())
    return plain;
  const auto target = doctor::parse_target("http://" + text);
  if (!target || !target->host_is_ip()) return std::nullopt;
  return net::SocketAddress::parse(target->host, target->port);
}

/// What the command line says about a target wins over what a map says.
std::optional<std::string> apply_arguments(const Arguments& args, doctor::Target* target) {
  if (!args.pin.empty()) {
    target->pin = client::parse_pin(args.pin);
    if (!target->pin) return "--pin takes sha256-raw: and 64 hex digits";
  }
  if (args.insecure) target->insecure = true;
  target->authorities_file = args.authorities_file;
  if (args.stun_port == "off" || args.stun_port == "-1") {
    target->stun_port = std::nullopt;
  } else if (!args.stun_port.empty()) {
    const auto port = doctor::parse_target("http://0.0.0.0:" + args.stun_port);
    if (!port) return "--stun-port takes a port from 1 to 65535, or off";
    target->stun_port = port->port;
  }
  if (args.http_port && (target->http_port || !target->from_map))
    target->http_port = args.http_port;
  return std::nullopt;
}

/// Reads and lints all maps, and gives them as one. Nullopt when one cannot be read.
std::optional<doctor::DerpMap> check_maps(const Arguments& args, doctor::Report& report) {
  doctor::DerpMap all;
  bool readable = true;
  for (const auto& path : args.maps) {
    report.begin_section(fmt::format("map {}", path));
    auto parsed = doctor::read_map(path);
    if (!parsed) {
      report.add(doctor::State::kFail, "D25", "syntax", parsed.error(),
                 "Write one with: detour map --hostname NAME");
      readable = false;
      continue;
    }
    auto linted = doctor::lint_map(parsed->map);
    const bool clean = parsed->findings.empty();
    for (auto& finding : parsed->findings) report.add(std::move(finding));
    for (auto& finding : linted.findings) {
      if (clean || finding.state != doctor::State::kPass) report.add(std::move(finding));
    }
    if ((linted.changed || parsed->repaired) && !linted.corrected.regions.empty())
      report.attach("the corrected map",
                    doctor::render_map(linted.corrected, doctor::MapFormat::kPolicy));
    if (const auto merged = doctor::merge_map(&all, linted.corrected); !merged) {
      report.add(doctor::State::kFail, "D25", "conflict", merged.error());
      readable = false;
    }
  }
  return readable ? std::optional(std::move(all)) : std::nullopt;
}

/// The node of the map that a target means.
const doctor::Target* find_in_map(const std::vector<doctor::Target>& nodes,
                                  const doctor::Target& target, bool has_port) {
  for (const auto& node : nodes) {
    const bool same_host =
        node.host == target.host || node.ipv4 == target.host || node.ipv6 == target.host;
    if (same_host && (!has_port || node.port == target.port)) return &node;
  }
  return nullptr;
}

bool names_port(std::string_view text) {
  if (const auto scheme = text.find("://"); scheme != std::string_view::npos)
    text.remove_prefix(scheme + 3);
  const auto end = text.rfind(']');
  if (end != std::string_view::npos) text.remove_prefix(end);
  return text.find(':') != std::string_view::npos && text.find(':') == text.rfind(':');
}

/// What the running relay says of its clients' paths, where this user may ask it.
void check_status(const doctor::ServerConfiguration& found, doctor::Report& report) {
  if (!found.process || !found.parsed) return;
  const auto socket = config::control_socket_of(found.parsed->config);
  if (socket.path.empty()) return;
  report.doing("the relay's own status");
  const auto answer = ask_relay(socket.path, "GET", "/status");
  if (!answer) {
    report.add(doctor::State::kInfo, "D27", "no-status",
               "the relay was not asked how its clients fare: " + answer.error());
    return;
  }
  for (auto& finding : doctor::judge_status(answer->body)) report.add(std::move(finding));
}

/// Looks at this machine. Gives an error in the arguments.
std::optional<std::string> check_this_machine(const Call& call, const Arguments& args,
                                              const doctor::ProbeOptions& options,
                                              doctor::Report& report) {
  doctor::ServerCheck check{.args = args.serve,
                            .has_args = args.has_serve,
                            .pid = args.pid,
                            .user = std::nullopt,
                            .map = std::nullopt,
                            .program = {.name = call.program, .version = std::string(version())},
                            .probe = options,
                            .roots = {}};
  if (!args.user.empty()) {
    const passwd* entry = getpwnam(args.user.c_str());
    if (entry == nullptr)
      return fmt::format("--user {}: there is no such user on this machine", args.user);
    check.user = entry->pw_uid;
  }
  if (!args.maps.empty()) {
    check.map = check_maps(args, report);
    if (!check.map) return std::nullopt;
  }
  const auto found = doctor::find_configuration(check);
  if (!found) return found.error();
  doctor::check_server(check, *found, report);
  check_status(*found, report);
  if (found->process && found->parsed)
    hand_over(report, config::control_socket_of(found->parsed->config).path);
  return std::nullopt;
}

/// Looks at relays from outside. Gives an error in the arguments.
std::optional<std::string> check_from_outside(const Arguments& args,
                                              const doctor::ProbeOptions& options,
                                              doctor::Report& report) {
  std::vector<doctor::Target> targets;
  if (!args.maps.empty()) {
    const auto map = check_maps(args, report);
    if (!map) return std::nullopt;
    targets = doctor::targets_of(*map, args.region);
    if (args.region && targets.empty())
      return fmt::format("--region {}: the map has no such region with a node", *args.region);
  }
  if (!args.target.empty()) {
    auto target = doctor::parse_target(args.target);
    if (!target) {
      report.begin_section(args.target);
      report.add(doctor::State::kFail, "D01", "address", target.error(),
                 "Write https://HOST:PORT.");
      return std::nullopt;
    }
    if (const auto* node = find_in_map(targets, *target, names_port(args.target))) {
      *target = *node;
    } else if (!args.maps.empty()) {
      return fmt::format("the map has no node for {}", args.target);
    }
    targets = {std::move(*target)};
  }
  for (auto& target : targets) {
    if (auto error = apply_arguments(args, &target)) return error;
    report.begin_section(target.title);
    doctor::probe_relay(target, options, report);
  }
  doctor::check_proxies_here(report);
  return std::nullopt;
}

}  // namespace

int run_doctor(const Call& call) {
  Arguments arguments;
  CLI::App app{
      "Finds out why a relay does not work, and says what mends it.\n"
      "Exit status: 0 fine, 1 warnings, 2 failed or not understood.",
      call.program + " doctor"};
  add_options(&app, &arguments);
  const auto own = split_at_dashes(call.args, &arguments.serve);
  arguments.has_serve = own.size() < call.args.size();
  if (const auto status = parse_arguments(app, own)) return *status;
  if (arguments.list_codes) {
    for (const auto& [code, title] : doctor::codes()) fmt::print("{}  {}\n", code, title);
    return 0;
  }
  doctor::ProbeOptions options;
  for (const auto& text : arguments.resolvers) {
    const auto resolver = parse_resolver(text);
    if (!resolver)
      return usage_error(call, kName, fmt::format("--resolver {}: write IP or IP:PORT", text));
    options.resolvers.push_back(*resolver);
  }
  options.throughput = arguments.throughput;
  options.timeout =
      std::chrono::milliseconds(static_cast<std::int64_t>(arguments.timeout_seconds * 1000));
  if (!crypto::init()) return usage_error(call, kName, "the crypto library cannot be used");
  if (!arguments.key_file.empty()) {
    const auto loaded = load_or_make_key(arguments.key_file);
    if (!loaded) return usage_error(call, kName, "--key-file: " + loaded.error());
    options.known_key = loaded->key;
  }
  std::signal(SIGPIPE, SIG_IGN);
  end_on_interrupt();

  doctor::Report report(report_options(arguments.json));
  const bool local = arguments.local || (arguments.target.empty() && arguments.maps.empty());
  if (local && !arguments.target.empty())
    return usage_error(call, kName, "--local looks at this machine: leave the relay's address out");
  if (!local && (arguments.has_serve || arguments.pid || !arguments.user.empty()))
    return usage_error(call, kName,
                       "--pid, --user and what stands behind -- are for this machine: add --local");
  const auto error = local ? check_this_machine(call, arguments, options, report)
                           : check_from_outside(arguments, options, report);
  if (error) return usage_error(call, kName, *error);
  return report.finish();
}

}  // namespace detour::cli
