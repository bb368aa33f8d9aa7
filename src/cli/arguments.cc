#include "cli/arguments.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "config/command_line.h"

namespace detour::cli {

std::span<const std::string> split_at_dashes(std::span<const std::string> args,
                                             std::vector<std::string>* behind) {
  const auto dashes = std::ranges::find(args, "--");
  if (dashes == args.end()) return args;
  behind->assign(dashes + 1, args.end());
  return args.first(static_cast<std::size_t>(dashes - args.begin()));
}

std::optional<int> parse_arguments(CLI::App& app, std::span<const std::string> args) {
  try {
    // CLI11 takes the arguments last first.
    app.parse(std::vector<std::string>(args.rbegin(), args.rend()));
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : config::kExitUsage;
  }
  return std::nullopt;
}

int usage_error(const Call& call, std::string_view subcommand, std::string_view what) {
  fmt::print(stderr, "{} {}: {}\n", call.program, subcommand, what);
  return config::kExitUsage;
}

}  // namespace detour::cli
