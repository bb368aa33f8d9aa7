#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "config/config.h"

/// The one table of settings. Flags of derper, options of `detour serve`, environment variables,
/// keys of the configuration file, help texts and the list of effective values all come from it.
namespace detour::config {

struct Environment;

/// What a setting's text means, and so how it is read, checked and written in a file.
enum class Kind : std::uint8_t {
  kSwitch,
  kCount,  ///< A whole number from `min` to `max`.
  kNumber,
  kPort,
  kOptionalPort,  ///< Also -1 or off.
  kTime,          ///< With its unit, not negative.
  kSignedTime,    ///< Negative is off.
  kText,
  kSecret,  ///< Text that is never printed.
  kFile,
  kFolder,
  kUrl,
  kHostname,
  kHome,
  kListen,
  kOptionalListen,  ///< Empty = none.
  kCertMode,
  kTlsRecords,
  kNames,  ///< Several, with commas; empty ones are left out.
  kFiles,
  kUrls,  ///< Several, with spaces, since a URL may have commas.
  kRanges,
  kMeshPeers,
};

/// The member of Config that a setting fills in. monostate: none, the command line acts on it.
using Field =
    std::variant<std::monostate, bool Config::*, std::string Config::*, Duration Config::*,
                 std::uint16_t Config::*, std::optional<std::uint16_t> Config::*,
                 std::uint32_t Config::*, std::uint64_t Config::*, double Config::*,
                 std::vector<std::string> Config::*, ListenAddress Config::*,
                 std::optional<ListenAddress> Config::*, HomePage Config::*, CertMode Config::*,
                 TlsRecords Config::*, std::vector<MeshPeer> Config::*>;

enum class Group : std::uint8_t {
  kListening,
  kIdentity,
  kAcme,
  kAdmission,
  kMesh,
  kLimits,
  kRelaying,
  kPages,
  kProxies,
  kWatching,
  kOther,
};
inline constexpr std::size_t kGroupCount = 11;

/// How the help calls a group.
[[nodiscard]] std::string_view heading(Group group);

/// A default that depends on the machine, and where it comes from ("default" when empty).
struct Default {
  std::string text;
  std::string source;
};
using DefaultRule = Default (*)(Personality, const Environment&);

/// One setting.
struct SettingRow {
  /// "http-port": the option --http-port of `detour serve`, the key of the file, the name in the
  /// log, and as DETOUR_HTTP_PORT and DERP_HTTP_PORT the environment variables.
  std::string_view name;
  Kind kind = Kind::kText;
  Field field = {};
  Group group = Group::kOther;
  std::string_view help;
  /// What is said after "default " in the help; empty: the default itself, if there is one.
  std::string_view help_default = {};

  std::string_view fallback = {};  ///< The default under both names ...
  std::optional<std::string_view> derper_fallback = std::nullopt;  ///< ... unless derper's differs.
  DefaultRule default_rule = nullptr;                              ///< Instead of both.

  std::string_view derper_flag = {};      ///< Without the dash; empty: derper has no such flag.
  std::string_view derper_help = {};      ///< When `help` does not fit derper's flag.
  std::string_view derper_variable = {};  ///< Read from the environment under both names.
  /// Further spellings of the option: "a" is -a and --a.
  std::array<std::string_view, 2> aliases = {};
  std::array<std::string_view, 3> variables = {};  ///< Further environment variables.

  std::uint64_t min = 0;
  std::uint64_t max = std::numeric_limits<std::int64_t>::max();
  bool not_positive_is_default = false;  ///< Zero and less mean the default.

  bool has_option =
      true;  ///< `detour serve` has it; false: the environment alone, or derper alone.
  bool has_variables = true;  ///< DETOUR_<NAME> and DERP_<NAME>.
  bool reloadable = false;    ///< A changed value takes effect on SIGHUP.
};

/// In the order of the help text and the log.
[[nodiscard]] std::span<const SettingRow> settings_table();

/// The row of that name; it has to exist.
[[nodiscard]] const SettingRow& setting_row(std::string_view name);

/// The default of a setting.
[[nodiscard]] Default default_of(const SettingRow& row, Personality personality,
                                 const Environment& environment);

/// Whether it holds several values.
[[nodiscard]] constexpr bool is_list(Kind kind) {
  return kind == Kind::kNames || kind == Kind::kFiles || kind == Kind::kUrls ||
         kind == Kind::kRanges || kind == Kind::kMeshPeers;
}

/// What the help writes for a value: "FILE"; empty for a switch.
[[nodiscard]] std::string_view value_name(const SettingRow& row);

/// All environment variables that set it under `detour serve`, best known first.
[[nodiscard]] std::vector<std::string> variables_of(const SettingRow& row);

}  // namespace detour::config
