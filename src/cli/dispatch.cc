#include "cli/dispatch.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <string_view>
#include <vector>

#include "cli/bench.h"
#include "cli/doctor.h"
#include "cli/map.h"
#include "cli/netcheck.h"
#include "cli/ping.h"
#include "cli/serve.h"
#include "cli/status.h"
#include "cli/subcommand.h"
#include "cli/version.h"
#include "config/command_line.h"
#include "config/suggest.h"

namespace detour::cli {
namespace {

int run_help(const Call& call);

int run_version(const Call&) {
  fmt::print("detour {}\n", version());
  return 0;
}

/// A new subcommand is one line here, and one file beside this one.
constexpr std::array kSubcommands = std::to_array<Subcommand>({
    {"serve", "Run the relay: DERP over TLS, and STUN", run_serve},
    {"config", "Print every setting of a relay, and where each value is from", run_config},
    {"status", "Say how the relay that runs here is doing", run_status},
    {"top", "Watch the busiest clients of the relay that runs here", run_top},
    {"kick", "Close all connections of a client", run_kick},
    {"drain", "Let the clients of the relay go one after another, and end it", run_drain},
    {"ping", "Relay packets between two throw-away clients, and time them", run_ping},
    {"doctor", "Find out why a relay does not work, and what mends it", run_doctor},
    {"map", "Write a DERP map for a policy file or Headscale, merge several, or check one",
     run_map},
    {"netcheck", "Measure every region of a DERP map as clients do", run_netcheck},
    {"bench", "Measure what a relay carries, or compare two: throughput, loss, latency", run_bench},
    {"version", "Print the version", run_version},
    {"help", "Print this text", run_help},
});

std::string help_text(std::string_view program) {
  std::string text = fmt::format(
      "Detour {}: a DERP relay for Tailscale clients.\n\n"
      "Usage: {} SUBCOMMAND [options]\n\n",
      version(), program);
  for (const auto& subcommand : kSubcommands)
    text += fmt::format("  {:<10} {}\n", subcommand.name, subcommand.summary);
  return text + fmt::format(
                    "\nRun `{0} SUBCOMMAND --help` for its options. Started under the name derper "
                    "(a symbolic\nlink), the program takes derper's flags and runs the relay.\n",
                    program);
}

int run_help(const Call& call) {
  fmt::print("{}", help_text(call.program));
  return 0;
}

int unknown_subcommand(std::string_view program, std::string_view name) {
  std::vector<std::string_view> names;
  for (const auto& subcommand : kSubcommands) names.push_back(subcommand.name);
  const auto meant = config::suggest(name, names);
  fmt::print(stderr, "{0}: there is no subcommand \"{1}\"{2}\nRun `{0} help` for the list.\n",
             program, name, meant ? fmt::format(": did you mean {}?", *meant) : "");
  return config::kExitUsage;
}

std::string_view base_name(std::string_view path) {
  return path.substr(path.rfind('/') + 1);  // npos + 1 is 0.
}

}  // namespace

int dispatch(std::span<const std::string> args) {
  const std::string program = args.empty() ? "detour" : args[0];
  const auto rest = args.subspan(std::min<std::size_t>(1, args.size()));
  if (base_name(program) == "derper") return run_derper({.program = program, .args = rest});

  if (rest.empty()) {
    fmt::print(stderr, "{}", help_text(program));
    return config::kExitUsage;
  }
  const std::string& name = rest[0];
  const Call call{.program = program, .args = rest.subspan(1)};
  if (name == "--help" || name == "-h") return run_help(call);
  if (name == "--version" || name == "-V") return run_version(call);
  const auto found = std::ranges::find(kSubcommands, name, &Subcommand::name);
  if (found == kSubcommands.end()) return unknown_subcommand(program, name);
  return found->run(call);
}

}  // namespace detour::cli
