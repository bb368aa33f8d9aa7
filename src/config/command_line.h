#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"

namespace detour::config {

/// What the command line is read against, apart from the arguments. Injected so that tests choose.
struct Environment {
  std::map<std::string, std::string, std::less<>> variables;
  bool is_root = false;
  std::uint32_t cpus = 1;  ///< CPUs this process may run on (affinity mask).
  /// Whether a file exists; only asked for derper's default mesh key files.
  std::function<bool(const std::string&)> file_exists = [](const std::string&) { return false; };

  /// What a variable is set to; empty when it is not set, which means the same everywhere here.
  [[nodiscard]] std::string_view get(std::string_view name) const;

  [[nodiscard]] static Environment of_this_process();
};

/// How the program is called and which version it is.
struct Program {
  std::string name;     ///< As typed, for the usage text: "/usr/bin/derper".
  std::string version;  ///< Long form.
};

/// One effective value and who set it.
struct Setting {
  std::string name;    ///< "listen"
  std::string value;   ///< "203.0.113.7:443"
  std::string source;  ///< "flag -a", "environment variable X", "default"
};

/// A command line that was understood: run the relay.
struct Start {
  Config config;
  std::vector<Setting> settings;      ///< In the order of the help text.
  std::vector<std::string> notices;   ///< Worth saying once: what was understood how.
  std::vector<std::string> warnings;  ///< Works, but probably not as meant.
};

/// The program ends after reading its command line: version, help, or an error.
struct Exit {
  int status = 0;
  std::string out;  ///< For standard output, with its newline.
  std::string err;  ///< For standard error, with its newline.
};

inline constexpr int kExitFatal = 1;  ///< Understood, but cannot be done.
inline constexpr int kExitUsage = 2;  ///< Not understood.

using CommandLine = std::expected<Start, Exit>;

/// Reads derper's flags in Go's `flag` syntax, with derper's defaults and exit codes.
///
/// `args` are those after the program's name. Every flag of derper is known; one that is not built
/// yet is fatal when it is set to something else than its default. A bad flag ends the reading at
/// once (status 2, as in Go); what is wrong with the values is said together (status 1).
[[nodiscard]] CommandLine parse_derper_command_line(std::span<const std::string> args,
                                                    const Environment& environment,
                                                    const Program& program);

/// Reads `detour serve`'s long options. `args` are those after the subcommand.
/// All problems found are said together.
[[nodiscard]] CommandLine parse_serve_command_line(std::span<const std::string> args,
                                                   const Environment& environment,
                                                   const Program& program);

/// The lines that the start-up log has about the configuration: each effective value with its
/// source, those that were set before the defaults.
[[nodiscard]] std::vector<std::string> describe(const Start& start);

}  // namespace detour::config
