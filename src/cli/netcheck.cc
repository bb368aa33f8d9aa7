#include "cli/netcheck.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/duration.h"
#include "cli/arguments.h"
#include "cli/terminal.h"
#include "crypto/keys.h"
#include "doctor/netcheck.h"

namespace detour::cli {
namespace {

constexpr std::string_view kName = "netcheck";

struct Arguments {
  std::vector<std::string> maps;
  std::optional<int> region;
  std::string authorities_file;
  double timeout_seconds = 5;
  bool json = false;
};

std::string time_text(std::optional<Duration> time) {
  return time ? fmt::format("{:.1f} ms", in_milliseconds(*time)) : "-";
}

std::string line_of(const doctor::RegionLatency& region) {
  std::string line = fmt::format("{:>5}  {:<12} {:>10} {:>10} {:>10}  {}", region.id, region.code,
                                 time_text(region.stun_v4), time_text(region.stun_v6),
                                 time_text(region.https), region.name);
  if (!region.https_problem.empty())
    line += "\n       " + coloured("no answer over HTTPS: ", Colour::kRed) + region.https_problem;
  else if (!region.stun())
    line += "\n       " + coloured("no answer over STUN", Colour::kYellow) +
            ": clients do not choose this region while another answers";
  return line;
}

nlohmann::ordered_json json_of(const doctor::RegionLatency& region) {
  const auto time = [](std::optional<Duration> value) {
    return value ? nlohmann::ordered_json(in_milliseconds(*value))
                 : nlohmann::ordered_json(nullptr);
  };
  return {{"region", region.id},
          {"code", region.code},
          {"name", region.name},
          {"stun_v4_ms", time(region.stun_v4)},
          {"stun_v6_ms", time(region.stun_v6)},
          {"https_ms", time(region.https)},
          {"https_problem", region.https_problem}};
}

}  // namespace

int run_netcheck(const Call& call) {
  Arguments args;
  CLI::App app{
      "Measures every region of a DERP map as clients do: STUN and HTTPS.\n"
      "Exit status: 0 fine, 1 a region does not answer, 2 none does, or not understood.",
      call.program + " netcheck"};
  app.add_option("--map,maps", args.maps,
                 "The map: policy file, JSON or Headscale's YAML; - reads standard input")
      ->required();
  app.add_option("--region", args.region, "Only this region");
  app.add_option("--authorities", args.authorities_file,
                 "PEM file of the authorities to trust, not the system's");
  app.add_option("--timeout", args.timeout_seconds, "Seconds for each answer")
      ->capture_default_str()
      ->check(CLI::Range(0.1, 60.0));
  app.add_flag("--json", args.json, "Print one JSON object");
  app.footer(
      "Examples:\n"
      "  detour netcheck policy.hujson\n"
      "  curl -s https://controlplane.tailscale.com/derpmap/default | detour netcheck -");
  if (const auto status = parse_arguments(app, call.args)) return *status;
  if (!crypto::init()) return usage_error(call, kName, "the crypto library cannot be used");
  std::signal(SIGPIPE, SIG_IGN);

  doctor::DerpMap map;
  for (const auto& path : args.maps) {
    const auto parsed = doctor::read_map(path);
    if (!parsed) return usage_error(call, kName, parsed.error());
    if (const auto merged = doctor::merge_map(&map, doctor::lint_map(parsed->map).corrected);
        !merged)
      return usage_error(call, kName, merged.error());
  }
  if (args.region && !map.regions.contains(*args.region))
    return usage_error(call, kName,
                       fmt::format("--region {}: the map has no such region", *args.region));
  if (map.regions.empty()) return usage_error(call, kName, "the map has no region");

  doctor::ProbeOptions options;
  options.timeout =
      std::chrono::milliseconds(static_cast<std::int64_t>(args.timeout_seconds * 1000));
  end_on_interrupt();
  if (!args.json)
    fmt::print("{:>5}  {:<12} {:>10} {:>10} {:>10}\n", "", "region", "STUN IPv4", "STUN IPv6",
               "HTTPS");
  std::fflush(stdout);
  const std::size_t wanted = args.region ? 1 : map.regions.size();
  std::size_t done = 0;
  const auto say_how_far = [&] {
    if (!args.json && done < wanted)
      show_progress(fmt::format("{} of {} regions measured", done, wanted));
  };
  say_how_far();
  const auto regions = doctor::measure_regions(map, args.region, options, args.authorities_file,
                                               [&](const auto& region) {
                                                 if (args.json) return;
                                                 ++done;
                                                 clear_progress();
                                                 fmt::print("{}\n", line_of(region));
                                                 std::fflush(stdout);
                                                 say_how_far();
                                               });
  const auto* best = doctor::nearest(regions);
  const auto answered = [](const auto& region) { return region.stun() && region.https; };
  const bool all = std::ranges::all_of(regions, answered);
  const int status = best == nullptr ? kExitFailed : all ? kExitFine : kExitWarnings;
  if (args.json) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const auto& region : regions) list.push_back(json_of(region));
    const nlohmann::ordered_json whole = {
        {"ok", status == kExitFine},
        {"nearest",
         best == nullptr ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(best->id)},
        {"regions", std::move(list)}};
    fmt::print("{}\n", whole.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  } else if (best == nullptr) {
    fmt::print("\n{} Ask the doctor: {} doctor --map {}\n",
               coloured("No region answers.", Colour::kRed), call.program, args.maps.front());
  } else {
    fmt::print("\nClients here choose region {} \"{}\" as their home. {}\n", best->id, best->code,
               coloured(fmt::format("{} of {} regions answer STUN and HTTPS.",
                                    std::ranges::count_if(regions, answered), regions.size()),
                        all ? Colour::kGreen : Colour::kYellow));
    if (!all)
      fmt::print("What is wrong with the others: {} doctor --map {}\n", call.program,
                 args.maps.front());
  }
  std::fflush(stdout);
  return status;
}

}  // namespace detour::cli
