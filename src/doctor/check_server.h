#pragma once

#include <optional>
#include <string>
#include <vector>

#include "config/command_line.h"
#include "doctor/derp_map.h"
#include "doctor/machine.h"
#include "doctor/probe_relay.h"
#include "doctor/report.h"

namespace detour::doctor {

struct ServerCheck {
  std::vector<std::string> args;  ///< Of `detour serve`, where they are given.
  bool has_args = false;          ///< Use them instead of those of the relay that runs.
  std::optional<int> pid;         ///< Which relay, where several run.
  std::optional<uid_t> user;      ///< Of the service, where it does not run.
  std::optional<DerpMap> map;     ///< To compare with.
  config::Program program;
  ProbeOptions probe;
  MachineRoots roots;
};

/// The configuration of the relay on this machine: of the one that runs, or as it would start.
struct ServerConfiguration {
  std::optional<RelayProcess> process;  ///< Nullopt: none runs.
  config::CommandLine parsed;
};
/// Fails with what to say when several relays run, or the one named does not.
[[nodiscard]] std::expected<ServerConfiguration, std::string> find_configuration(
    const ServerCheck& check);

/// Checks this machine, the configuration and the running relay. Adds to `report`.
void check_server(const ServerCheck& check, const ServerConfiguration& found, Report& report);

/// The relay of a configuration as a DERP map has it: with the pin of its certificate when that is
/// self-signed and there.
[[nodiscard]] DerpMap map_of(const config::Config& config);

}  // namespace detour::doctor
