#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/build_config.h"
#include "config/suggest.h"

namespace detour::config {
namespace {

/// Variables of these names mean something, but not a setting.
constexpr std::array kOtherVariables =
    std::to_array<std::string_view>({"DETOUR_CONFIG", "DERP_DEBUG_LOGS", "DERP_PROBER_DEBUG_LOGS"});

/// ":443" and "443" say the same.
bool say_the_same(Kind kind, std::string_view a, std::string_view b) {
  const auto plain = [&](std::string_view text) {
    return kind == Kind::kListen && text.starts_with(':') ? text.substr(1) : text;
  };
  return plain(a) == plain(b);
}

void read_one(const SettingRow& row, const Environment& environment, Inputs& inputs,
              Remarks& remarks) {
  std::string_view used;
  std::string used_name;
  for (const auto& name : variables_of(row)) {
    const auto value = environment.get(name);
    if (value.empty()) continue;
    if (used_name.empty()) {
      used = value;
      used_name = name;
      continue;
    }
    if (say_the_same(row.kind, used, value)) continue;
    const bool secret = row.kind == Kind::kSecret;
    remarks.problems.push_back(
        fmt::format("environment variables {}{} and {}{} both set {} and differ: set only one",
                    used_name, secret ? "" : fmt::format("=\"{}\"", used), name,
                    secret ? "" : fmt::format("=\"{}\"", value), row.name));
  }
  if (used_name.empty()) return;
  inputs.set(row, Origin::kEnvironment, fmt::format("environment variable {}", used_name),
             std::string(used));
}

/// A container platform sets variables of such names by itself for a service called derp, so what
/// is not known is no error.
void remark_on_unknown(const Environment& environment, Remarks& remarks) {
  std::vector<std::string> known;
  for (const auto& row : settings_table())
    for (auto& name : variables_of(row)) known.push_back(std::move(name));
  for (const auto name : kOtherVariables) known.emplace_back(name);
  const std::vector<std::string_view> views(known.begin(), known.end());

  for (const auto& [name, value] : environment.variables) {
    const bool is_ours = name.starts_with("DERP_") || name.starts_with("DETOUR_");
    if (!is_ours || value.empty() || value.find("://") != std::string::npos) continue;
    if (std::ranges::find(known, name) != known.end()) continue;
    // The common beginning would make everything look alike.
    const auto prefix_size = name.find('_') + 1;
    std::vector<std::string_view> endings;
    for (const auto view : views)
      if (view.starts_with(std::string_view(name).substr(0, prefix_size)))
        endings.push_back(view.substr(prefix_size));
    if (const auto meant = suggest(std::string_view(name).substr(prefix_size), endings))
      remarks.warnings.push_back(
          fmt::format("environment variable {} means nothing: did you mean {}{}?", name,
                      name.substr(0, prefix_size), *meant));
  }
}

}  // namespace

void read_variables(const Environment& environment, Inputs& inputs, Remarks& remarks) {
  for (const auto& row : settings_table()) read_one(row, environment, inputs, remarks);
  remark_on_unknown(environment, remarks);
}

}  // namespace detour::config
