#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/subcommand.h"

namespace CLI {  // NOLINT(readability-identifier-naming): CLI11 calls itself so.
class App;
}

namespace detour::cli {

/// Exit statuses of the commands that look at relays. A call that was not understood fails too.
inline constexpr int kExitFine = 0;
inline constexpr int kExitWarnings = 1;
inline constexpr int kExitFailed = 2;

/// The arguments before a `--`; those behind it go to `*behind`.
[[nodiscard]] std::span<const std::string> split_at_dashes(std::span<const std::string> args,
                                                           std::vector<std::string>* behind);

/// Reads a subcommand's arguments into the variables that `app` was given. The exit status when the
/// program ends with that: help was printed (0), or what is wrong was said (config::kExitUsage).
[[nodiscard]] std::optional<int> parse_arguments(CLI::App& app, std::span<const std::string> args);

/// Says what is wrong with how `subcommand` was called, and gives the exit status for that.
[[nodiscard]] int usage_error(const Call& call, std::string_view subcommand, std::string_view what);

}  // namespace detour::cli
