#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
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
  /// The content of the configuration file, or what is wrong with it, beginning with its path.
  std::function<std::expected<std::string, std::string>(const std::string&)> read_file =
      [](const std::string& path) -> std::expected<std::string, std::string> {
    return std::unexpected(path + ": cannot be read");
  };

  /// What a variable is set to; empty when it is not set, which means the same everywhere here.
  [[nodiscard]] std::string_view get(std::string_view name) const;

  [[nodiscard]] static Environment of_this_process();
};

/// How the program is called and which version it is.
struct Program {
  std::string name;                  ///< As typed, for the usage text: "/usr/bin/derper".
  std::string version;               ///< Long form.
  std::string subcommand = "serve";  ///< The one of `detour` that takes the options of a relay.
};

/// Who said what a setting is. Later ones win.
enum class Origin : std::uint8_t { kDefault, kFile, kEnvironment, kFlag };

/// A value as files and JSON have it.
using SettingValue =
    std::variant<bool, std::int64_t, double, std::string, std::vector<std::string>>;

/// One effective value and who set it.
struct Setting {
  std::string name;    ///< "listen"
  SettingValue value;  ///< "203.0.113.7:443"; empty when it is secret.
  Origin origin = Origin::kDefault;
  std::string source;      ///< "flag -a", "environment variable X", "default", "the listen address"
  bool is_secret = false;  ///< Its value is not here and never printed.
  bool is_set = false;     ///< For a secret: there is one.
  bool reloadable = false;  ///< A change takes effect on SIGHUP.
};

/// A value as the log has it: `a,b` for a list.
[[nodiscard]] std::string to_text(const SettingValue& value);

/// The same of a setting: a secret says only that it is there.
[[nodiscard]] std::string shown(const Setting& setting);

/// A command line that was understood: run the relay.
struct Start {
  Config config;
  std::vector<Setting> settings = {};      ///< All of them, in the order of the help text.
  std::vector<std::string> notices = {};   ///< Worth saying once: what was understood how.
  std::vector<std::string> warnings = {};  ///< Works, but probably not as meant.
  bool check_only = false;                 ///< `serve --check`: say whether it could run, and end.
  bool as_json = false;                    ///< `config --json`.
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

/// Reads derper's flags in Go's `flag` syntax, with derper's defaults and exit codes, and the
/// environment variables that derper reads.
///
/// `args` are those after the program's name. A bad flag ends the reading at once (status 2, as in
/// Go); what is wrong with the values is said together (status 1).
[[nodiscard]] CommandLine parse_derper_command_line(std::span<const std::string> args,
                                                    const Environment& environment,
                                                    const Program& program);

/// Reads the settings of `detour serve`: long options, then the environment, then the file that
/// --config or DETOUR_CONFIG names, then defaults. `args` are those after the subcommand.
/// All problems found are said together.
[[nodiscard]] CommandLine parse_serve_command_line(std::span<const std::string> args,
                                                   const Environment& environment,
                                                   const Program& program);

/// The lines that the start-up log has about the configuration: each effective value with its
/// source, those that were set before the defaults.
[[nodiscard]] std::vector<std::string> describe(const Start& start);

/// All effective values as a configuration file, each with its source behind it; secrets are left
/// out. What it gives can be read back.
[[nodiscard]] std::string settings_as_toml(const Start& start);

/// The same as JSON: an object from name to value, source and so on.
[[nodiscard]] std::string settings_as_json(const Start& start);

/// One setting that two readings of the configuration do not agree on.
struct Change {
  std::string name;
  std::string before;  ///< As the log has it; "(secret)" for a secret.
  std::string after;
  bool reloadable = false;
};
[[nodiscard]] std::vector<Change> changes_between(const Start& before, const Start& after);

/// What runs on when the configuration was read again: `running`, but for the settings that can
/// change without a restart.
[[nodiscard]] Start with_reloadable(const Start& running, const Start& read);

}  // namespace detour::config
