#pragma once

#include <chrono>
#include <cstddef>
#include <expected>
#include <stop_token>
#include <string>
#include <vector>

#include "base/log.h"

/// Running a program of the operator. Blocks; for the control thread only.
namespace detour::acme {

/// A hook that takes longer is ended, with all that it started.
inline constexpr std::chrono::seconds kHookTimeout{120};
/// Lines of its output that go to the log; the rest is counted.
inline constexpr std::size_t kHookLinesMax = 50;
/// Longer lines are cut.
inline constexpr std::size_t kHookLineMax = 500;

struct HookCall {
  std::string program;  ///< Path of the program; it is not looked for in PATH.
  std::vector<std::string> arguments = {};
  std::vector<std::string> environment = {};  ///< `NAME=value`, added to this process's own.
  std::chrono::milliseconds timeout = kHookTimeout;
};

/// Runs it to its end, with nothing on standard input; each line that it prints becomes one of
/// `log`. Fails, with a text for the operator, when it cannot be started, takes too long, ends with
/// another status than 0, or when a stop is requested.
[[nodiscard]] std::expected<void, std::string> run_hook(const HookCall& call, Log& log,
                                                        const std::stop_token& stop);

}  // namespace detour::acme
