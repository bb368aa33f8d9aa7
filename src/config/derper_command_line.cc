#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/build_config.h"
#include "config/command_line.h"
#include "config/go_flags.h"
#include "config/go_values.h"

namespace detour::config {
namespace {

constexpr std::string_view kDevelopmentAddress = ":3340";

/// The type that derper's own flag has; that of the value is the setting's kind.
GoFlagType flag_type(Kind kind) {
  switch (kind) {
    case Kind::kSwitch:
      return GoFlagType::kBool;
    case Kind::kCount:
    case Kind::kPort:
    case Kind::kOptionalPort:
      return GoFlagType::kInt;
    case Kind::kNumber:
      return GoFlagType::kFloat;
    case Kind::kTime:
    case Kind::kSignedTime:
      return GoFlagType::kDuration;
    default:
      return GoFlagType::kString;
  }
}

std::vector<GoFlag> all_flags() {
  std::vector<GoFlag> flags;
  for (const auto& row : settings_table())
    if (!row.derper_flag.empty())
      flags.push_back({.name = row.derper_flag, .type = flag_type(row.kind)});
  return flags;
}

/// derper has one URL and one socket, whatever characters are in them.
bool holds_one_value(const SettingRow& row) {
  return row.kind == Kind::kUrls || row.kind == Kind::kFiles;
}

Inputs read_inputs(const GoFlagValues& values, const Environment& environment) {
  Inputs inputs(Personality::kDerper, environment);
  for (const auto& row : settings_table()) {
    if (const auto text = environment.get(row.derper_variable); !text.empty())
      inputs.set(row, Origin::kEnvironment,
                 fmt::format("environment variable {}", row.derper_variable), std::string(text));
    const auto found = values.set.find(row.derper_flag);
    if (found == values.set.end()) continue;
    auto where = fmt::format("flag -{}", row.derper_flag);
    if (holds_one_value(row))
      inputs.set_items(row, Origin::kFlag, std::move(where),
                       found->second.empty() ? std::vector<std::string>()
                                             : std::vector<std::string>{found->second});
    else
      inputs.set(row, Origin::kFlag, std::move(where), found->second);
  }

  const bool dev = parse_go_bool(inputs.at("dev").text).value_or(false);
  if (dev) inputs.derive("listen", "flag -dev", std::string(kDevelopmentAddress));
  const bool manual = inputs.at("cert-mode").text == "manual";
  const bool tls = manual || listens_on_https(inputs.at("listen").text);
  inputs.derive("tls", manual ? "flag -certmode" : "the port in -a", tls ? "true" : "false");
  return inputs;
}

void remark_on_ignored_arguments(const GoFlagValues& values, Remarks& remarks) {
  if (values.rest.empty()) return;
  remarks.warnings.push_back(fmt::format(
      "the flags end at the argument \"{}\", so it and what follows is ignored (a flag that "
      "switches something off needs an equals sign: -stun=false)",
      values.rest.front()));
}

void warn_of_what_clients_cannot_use(const Inputs& inputs, Start& start) {
  if (!start.config.tls && start.config.derp && !start.config.dev)
    start.warnings.push_back(fmt::format(
        "port {} is served as plain HTTP, without TLS, which Tailscale clients cannot use (\"first "
        "record does not look like a TLS handshake\"): add -certmode manual",
        start.config.listen.port));
  if (start.config.tls && !inputs.at("hostname").is_set())
    start.warnings.push_back(fmt::format("-hostname is not set: the name is {}, which is not yours",
                                         start.config.hostname));
}

std::string usage(const Program& program, const Environment& environment) {
  std::string text = fmt::format(
      "Usage of {}:\n\n"
      "A DERP and STUN server for Tailscale clients, with derper's flags (Detour {}).\n"
      "Flags have one or two dashes and take a value as -name value or -name=value; booleans only "
      "with =, like -stun=false.\n\n",
      program.name, program.version);
  for (const auto& row : settings_table()) {
    if (row.derper_flag.empty()) continue;
    const auto value = value_name(row);
    text += fmt::format("  -{}{}{}\n        {}", row.derper_flag, value.empty() ? "" : " ", value,
                        row.derper_help.empty() ? row.help : row.derper_help);
    const std::string fallback =
        row.default_rule == nullptr ? default_of(row, Personality::kDerper, environment).text : "";
    const bool has_default = !fallback.empty() && fallback != "false";
    text += has_default ? fmt::format(" (default {})\n", fallback) : "\n";
  }
  text += "\nEnvironment variables:\n";
  for (const auto& row : settings_table())
    if (!row.derper_variable.empty())
      text += fmt::format("  {}\n        {}\n", row.derper_variable, row.help);
  return text;
}

}  // namespace

CommandLine parse_derper_command_line(std::span<const std::string> args,
                                      const Environment& environment, const Program& program) {
  const auto values = parse_go_flags(args, all_flags());
  if (!values) {
    const GoFlagError& error = values.error();
    const std::string hint = error.hint.empty() ? std::string() : error.hint + "\n";
    const std::string said = error.help ? std::string() : error.message + "\n" + hint;
    return std::unexpected(Exit{.status = error.help ? 0 : kExitUsage,
                                .out = "",
                                .err = said + usage(program, environment)});
  }

  const Inputs inputs = read_inputs(*values, environment);
  if (parse_go_bool(inputs.at("version").text).value_or(false))
    return std::unexpected(Exit{.status = 0, .out = program.version + "\n", .err = ""});
  Remarks remarks;
  remark_on_ignored_arguments(*values, remarks);
  Start start = build_start(Personality::kDerper, inputs, environment, program, remarks);
  if (remarks.problems.empty()) {
    warn_of_what_clients_cannot_use(inputs, start);
    return start;
  }
  std::string said;
  for (const auto& problem : remarks.problems) said += fmt::format("derper: {}\n", problem);
  return std::unexpected(Exit{.status = kExitFatal, .out = "", .err = said});
}

}  // namespace detour::config
