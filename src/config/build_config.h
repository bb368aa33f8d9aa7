#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/command_line.h"
#include "config/settings.h"

/// From the texts of all sources to a checked Config. For this folder only.
namespace detour::config {

/// One setting as it was given, or its default.
struct Input {
  const SettingRow* row = nullptr;
  std::string text;                ///< Its value, but for lists.
  std::vector<std::string> items;  ///< The values of a list.
  Origin origin = Origin::kDefault;
  std::string where;  ///< "flag -a", "environment variable DERP_ADDR", "relay.toml line 3".
  std::string flag;   ///< How messages tell the operator to set it: "-http-port".

  [[nodiscard]] bool is_set() const { return origin != Origin::kDefault; }
  [[nodiscard]] bool is_empty() const { return text.empty() && items.empty(); }

  /// How messages name the setting with its value and where it is from, without saying it twice.
  [[nodiscard]] std::string described() const { return described(text); }
  /// The same about one item of a list.
  [[nodiscard]] std::string described(std::string_view value) const;
};

/// All settings, in the order of the table.
class Inputs {
 public:
  /// Everything at its default.
  Inputs(Personality personality, const Environment& environment);

  [[nodiscard]] const Input& at(std::string_view name) const;
  [[nodiscard]] const std::vector<Input>& all() const { return inputs_; }

  /// Replaces what a weaker source said. A list is split where it has commas (URLs: spaces).
  void set(const SettingRow& row, Origin origin, std::string where, std::string text);
  void set_items(const SettingRow& row, Origin origin, std::string where,
                 std::vector<std::string> items);
  /// For lists that may be given several times: more of the same source.
  void set_texts(const SettingRow& row, Origin origin, std::string where,
                 const std::vector<std::string>& texts);
  /// What follows from other settings: not the operator's word, but not the usual default either.
  void derive(std::string_view name, std::string where, std::string text);

 private:
  [[nodiscard]] Input& mutable_at(std::string_view name);

  std::vector<Input> inputs_;
};

/// What came to light beside the values.
struct Remarks {
  std::vector<std::string> problems;
  std::vector<std::string> notices;
  std::vector<std::string> warnings;
};

/// Checks everything and says everything that is wrong at once: when `remarks.problems` is not
/// empty afterwards, the result is not to be used.
[[nodiscard]] Start build_start(Personality personality, const Inputs& inputs,
                                const Environment& environment, const Program& program,
                                Remarks& remarks);

/// Whether the listen address asks for TLS by derper's rule: port 443, or `https`.
[[nodiscard]] bool listens_on_https(const std::string& listen_text);

/// Sets what the environment says, for `detour serve`: every variable of the table.
void read_variables(const Environment& environment, Inputs& inputs, Remarks& remarks);

/// Sets what a configuration file says. `path` is for messages.
void read_config_file(const std::string& path, std::string_view content, Inputs& inputs,
                      Remarks& remarks);

}  // namespace detour::config
