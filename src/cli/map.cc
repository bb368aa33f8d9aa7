#include "cli/map.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <expected>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/arguments.h"
#include "cli/terminal.h"
#include "cli/version.h"
#include "config/address.h"
#include "doctor/check_server.h"
#include "doctor/derp_map.h"
#include "doctor/report.h"

namespace detour::cli {
namespace {

constexpr std::string_view kName = "map";

const std::map<std::string, doctor::MapFormat> kFormats = {
    {"policy", doctor::MapFormat::kPolicy},
    {"headscale", doctor::MapFormat::kHeadscale},
    {"json", doctor::MapFormat::kJson},
};

struct Arguments {
  std::vector<std::string> files;
  doctor::MapFormat format = doctor::MapFormat::kPolicy;
  bool check = false;
  bool json = false;
  bool omit_default_regions = false;
  bool keep_default_regions = false;
  // A node by hand; the same names override what the configuration says.
  std::string hostname;
  std::optional<int> port;
  std::string stun_port;
  std::string cert_name;
  std::optional<std::string> ipv4;
  std::optional<std::string> ipv6;
  bool can_port80 = false;
  std::optional<int> region;
  std::string region_code;
  std::string region_name;
  std::string node_name;
  std::optional<int> pid;
  std::vector<std::string> serve;
  bool has_serve = false;
};

/// Turns the name of a format into its number. Gives what is wrong with it.
std::string number_of_format(std::string& text) {
  const auto found = kFormats.find(text);
  if (found == kFormats.end())
    return fmt::format("there is no format \"{}\": write policy, headscale or json", text);
  text = std::to_string(static_cast<int>(found->second));
  return {};
}

void add_options(CLI::App* app, Arguments* args) {
  app->add_option("files", args->files,
                  "Maps to merge or check: policy file, JSON or Headscale's YAML; - reads standard "
                  "input. Without one: the relay on this machine");
  app->add_option("--format", args->format,
                  "policy (HuJSON with comments for a tailnet policy file), headscale (YAML for "
                  "derp.paths) or json (for derp.urls)")
      ->type_name("FORMAT")
      ->transform(CLI::Validator(number_of_format, ""));
  app->add_flag("--check", args->check, "Say what is wrong with the files, and print no map");
  app->add_flag("--json", args->json, "With --check: print one JSON object");
  app->add_option("--hostname", args->hostname,
                  "Write a node for this name or IP address, without looking at this machine");
  app->add_option("--port", args->port, "TCP port that clients use")->check(CLI::Range(1, 65535));
  app->add_option("--stun-port", args->stun_port, "UDP port that clients use, or off");
  app->add_option("--cert-name,--pin", args->cert_name,
                  "The certificate's pin, sha256-raw:HEX, or the name in it");
  app->add_option("--ipv4", args->ipv4, "Address to dial instead of asking DNS, or none");
  app->add_option("--ipv6", args->ipv6, "Address to dial instead of asking DNS, or none");
  app->add_flag("--can-port80", args->can_port80, "Clients reach port 80 too");
  app->add_option("--region", args->region, "Region number, 900 to 999")->check(CLI::Range(1, 999));
  app->add_option("--region-code", args->region_code, "Its short name");
  app->add_option("--region-name", args->region_name, "Its long name");
  app->add_option("--node-name", args->node_name, "Name of the node");
  auto* omit = app->add_flag("--omit-default-regions", args->omit_default_regions,
                             "Switch Tailscale's own relays off");
  app->add_flag("--keep-default-regions", args->keep_default_regions, "Leave them on")
      ->excludes(omit);
  app->add_option("--pid", args->pid, "The relay that runs as this process");
  app->footer(
      "Behind -- stand the options of `detour serve` for the relay to write, where it is not "
      "the one that runs.\n\n"
      "Examples:\n"
      "  sudo detour map                               the relay of this machine\n"
      "  detour map -- --config FILE                   one that does not run yet\n"
      "  detour map --hostname derp.example.com --region 901 --format json\n"
      "  detour map eu.json asia.yaml                  both in one map\n"
      "  detour map --check policy.hujson              what is wrong with it");
}

/// Reads, lints and merges the files. False when one of them cannot be used.
bool read_files(const Arguments& args, doctor::Report& report, doctor::DerpMap* map) {
  bool usable = true;
  for (const auto& path : args.files) {
    report.begin_section(fmt::format("map {}", path));
    auto parsed = doctor::read_map(path);
    if (!parsed) {
      report.add(doctor::State::kFail, "D25", "syntax", parsed.error());
      usable = false;
      continue;
    }
    auto linted = doctor::lint_map(parsed->map);
    const bool clean = parsed->findings.empty();
    for (auto& finding : parsed->findings) report.add(std::move(finding));
    for (auto& finding : linted.findings) {
      if (clean || finding.state != doctor::State::kPass) report.add(std::move(finding));
    }
    if (args.check && (linted.changed || parsed->repaired) && !linted.corrected.regions.empty())
      report.attach("the corrected map", doctor::render_map(linted.corrected, args.format));
    if (const auto merged = doctor::merge_map(map, linted.corrected); !merged) {
      report.add(doctor::State::kFail, "D25", "conflict", merged.error());
      usable = false;
    }
  }
  return usable;
}

/// The relay of this machine, or of the options behind `--`.
std::expected<doctor::DerpMap, std::string> map_of_machine(const Call& call,
                                                           const Arguments& args) {
  const doctor::ServerCheck check{
      .args = args.serve,
      .has_args = args.has_serve,
      .pid = args.pid,
      .user = std::nullopt,
      .map = std::nullopt,
      .program = {.name = call.program, .version = std::string(version())},
      .probe = {},
      .roots = {}};
  auto found = doctor::find_configuration(check);
  if (!found) return std::unexpected(found.error());
  if (!found->parsed) return std::unexpected(found->parsed.error().err);
  const auto& config = found->parsed->config;
  if (config.hostname.empty())
    return std::unexpected(
        "no relay runs here and no host name is configured: name it with --hostname NAME, or give "
        "the relay's options behind --");
  if (!config.tls && args.cert_name.empty())
    fmt::print(stderr,
               "note: the relay speaks plain HTTP; the map is right only with something in "
               "front that ends TLS for {}\n",
               config.hostname);
  return doctor::map_of(config);
}

/// What the options say about the one node. Gives an error in them.
std::optional<std::string> apply_options(const Arguments& args, doctor::DerpMap* map) {
  doctor::MapRegion region = map->regions.begin()->second;
  doctor::MapNode& node = region.nodes.front();
  if (!args.hostname.empty()) {
    const auto name = config::parse_hostname(args.hostname, "option --hostname");
    if (!name) return name.error();
    node.hostname = *name;
    if (config::is_ip(*name)) (config::is_ipv6(*name) ? node.ipv6 : node.ipv4) = *name;
  }
  if (args.port) node.derp_port = *args.port == 443 ? 0 : *args.port;
  if (args.stun_port == "off" || args.stun_port == "-1") {
    node.stun_port = -1;
  } else if (!args.stun_port.empty()) {
    const auto port = doctor::parse_target("http://0.0.0.0:" + args.stun_port);
    if (!port) return "--stun-port takes a port from 1 to 65535, or off";
    node.stun_port = port->port == 3478 ? 0 : port->port;
  }
  if (!args.cert_name.empty()) node.cert_name = args.cert_name;
  if (args.ipv4) node.ipv4 = *args.ipv4;
  if (args.ipv6) node.ipv6 = *args.ipv6;
  if (args.can_port80) node.can_port80 = true;
  region.id = args.region.value_or(region.id);
  node.region_id = region.id;
  node.name = args.node_name.empty() ? fmt::format("{}a", region.id) : args.node_name;
  if (!args.region_code.empty()) region.code = args.region_code;
  if (!args.region_name.empty()) region.name = args.region_name;
  map->regions.clear();
  map->regions.emplace(region.id, std::move(region));
  return std::nullopt;
}

}  // namespace

int run_map(const Call& call) {
  Arguments args;
  CLI::App app{
      "Writes a DERP map, of the relay on this machine or of several files together, or "
      "checks one.\n"
      "Exit status: 0 fine, 1 warnings, 2 failed or not understood.",
      call.program + " map"};
  add_options(&app, &args);
  const auto own = split_at_dashes(call.args, &args.serve);
  args.has_serve = own.size() < call.args.size();
  if (const auto status = parse_arguments(app, own)) return *status;
  if (args.check && args.files.empty())
    return usage_error(call, kName, "--check takes files: detour map --check FILE");
  if (args.json && !args.check)
    return usage_error(call, kName,
                       "--json goes with --check; for a map in "
                       "JSON write --format json");
  if (!args.files.empty() && (!args.hostname.empty() || args.has_serve || args.pid))
    return usage_error(call, kName,
                       "write files, or a relay's options, not both: merge them in a second "
                       "step");

  doctor::ReportOptions options = report_options(args.json);
  if (!args.check) options.out = stderr;  // Standard output is for the map.
  doctor::Report report(options);
  doctor::DerpMap map;
  if (!args.files.empty()) {
    const bool usable = read_files(args, report, &map);
    if (args.check || !usable) return report.finish();
  } else {
    if (args.hostname.empty()) {
      auto found = map_of_machine(call, args);
      if (!found) return usage_error(call, kName, found.error());
      map = std::move(*found);
    } else {
      map.regions[900] = {.id = 900, .code = "detour", .name = "Detour", .nodes = {{}}};
    }
    if (const auto error = apply_options(args, &map)) return usage_error(call, kName, *error);
  }
  if (args.omit_default_regions) map.omit_default_regions = true;
  if (args.keep_default_regions) map.omit_default_regions = false;

  auto linted = doctor::lint_map(map);
  bool failed = false;
  if (args.files.empty()) {
    report.begin_section("the map");
    for (auto& finding : linted.findings) report.add(std::move(finding));
    failed = report.failed();
  }
  if (failed) return report.finish();
  fmt::print("{}", doctor::render_map(linted.corrected, args.format));
  std::fflush(stdout);
  const int status = report.finish();
  // What was wrong in files has been corrected.
  return args.files.empty() ? status : std::min(status, 1);
}

}  // namespace detour::cli
