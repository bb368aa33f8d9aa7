#include <algorithm>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "config/command_line.h"
#include "config/settings.h"

/// What two readings of the configuration differ in.
namespace detour::config {
namespace {

/// A secret's value is not in the list of settings, but in the Config.
bool has_same_secret(std::string_view name, const Config& a, const Config& b) {
  const auto field = std::get<std::string Config::*>(setting_row(name).field);
  return a.*field == b.*field;
}

}  // namespace

std::vector<Change> changes_between(const Start& before, const Start& after) {
  std::vector<Change> changes;
  for (const auto& now : after.settings) {
    const auto then = std::ranges::find(before.settings, now.name, &Setting::name);
    if (then == before.settings.end()) continue;
    if (then->value == now.value && then->is_set == now.is_set &&
        (!now.is_secret || has_same_secret(now.name, before.config, after.config)))
      continue;
    changes.push_back({.name = now.name,
                       .before = shown(*then),
                       .after = shown(now),
                       .reloadable = now.reloadable});
  }
  return changes;
}

Start with_reloadable(const Start& running, const Start& read) {
  Start merged = running;
  for (const auto& setting : read.settings) {
    if (!setting.reloadable) continue;
    const auto copy = [&](auto field) {
      if constexpr (!std::is_same_v<decltype(field), std::monostate>)
        merged.config.*field = read.config.*field;
    };
    std::visit(copy, setting_row(setting.name).field);
    const auto target = std::ranges::find(merged.settings, setting.name, &Setting::name);
    if (target != merged.settings.end()) *target = setting;
  }
  return merged;
}

}  // namespace detour::config
