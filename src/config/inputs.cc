#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "config/build_config.h"

namespace detour::config {
namespace {

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpaces = " \t\r\n";
  const auto first = text.find_first_not_of(kSpaces);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpaces) - first + 1);
}

std::vector<std::string> split(Kind kind, std::string_view text) {
  std::vector<std::string> items;
  if (trimmed(text).empty()) return items;
  const char separator = kind == Kind::kUrls ? ' ' : ',';
  for (std::size_t at = 0; at <= text.size();) {
    const auto end = std::min(text.find(separator, at), text.size());
    const auto item = trimmed(text.substr(at, end - at));
    // In address ranges an empty entry is an error of its own, as it is for derper.
    if (!item.empty() || kind == Kind::kRanges) items.emplace_back(item);
    at = end + 1;
  }
  return items;
}

}  // namespace

std::string Input::described(std::string_view value) const {
  if (row->kind == Kind::kSecret)
    return fmt::format("{} ({}; its value is not printed)", flag, where);
  switch (origin) {
    case Origin::kFlag:
      return fmt::format("{} \"{}\"", flag, value);
    case Origin::kEnvironment:
      return fmt::format("{}=\"{}\"", where, value);
    case Origin::kFile:
      return fmt::format("{}: {} \"{}\"", where, row->name, value);
    case Origin::kDefault:
      break;
  }
  return fmt::format("{} \"{}\" ({})", flag, value, where);
}

Inputs::Inputs(Personality personality, const Environment& environment) {
  const bool is_derper = personality == Personality::kDerper;
  for (const auto& row : settings_table()) {
    Input input;
    input.row = &row;
    if (is_derper)
      input.flag = row.derper_flag.empty() ? std::string(row.derper_variable)
                                           : fmt::format("-{}", row.derper_flag);
    else
      input.flag = row.has_option ? fmt::format("--{}", row.name) : std::string(row.name);
    auto fallback = default_of(row, personality, environment);
    input.where = std::move(fallback.source);
    if (is_list(row.kind))
      input.items = split(row.kind, fallback.text);
    else
      input.text = std::move(fallback.text);
    inputs_.push_back(std::move(input));
  }
}

Input& Inputs::mutable_at(std::string_view name) {
  const auto found =
      std::ranges::find_if(inputs_, [&](const Input& input) { return input.row->name == name; });
  DETOUR_CHECK(found != inputs_.end());
  return *found;
}

const Input& Inputs::at(std::string_view name) const {
  return const_cast<Inputs*>(this)->mutable_at(name);  // NOLINT: nothing is changed.
}

void Inputs::set(const SettingRow& row, Origin origin, std::string where, std::string text) {
  if (is_list(row.kind)) return set_items(row, origin, std::move(where), split(row.kind, text));
  Input& input = mutable_at(row.name);
  input.origin = origin;
  input.where = std::move(where);
  input.text = std::move(text);
}

void Inputs::set_items(const SettingRow& row, Origin origin, std::string where,
                       std::vector<std::string> items) {
  DETOUR_CHECK(is_list(row.kind));
  Input& input = mutable_at(row.name);
  input.origin = origin;
  input.where = std::move(where);
  input.items = std::move(items);
}

void Inputs::set_texts(const SettingRow& row, Origin origin, std::string where,
                       const std::vector<std::string>& texts) {
  if (!is_list(row.kind)) return set(row, origin, std::move(where), texts.back());
  std::vector<std::string> items;
  for (const auto& text : texts)
    for (auto& item : split(row.kind, text)) items.push_back(std::move(item));
  set_items(row, origin, std::move(where), std::move(items));
}

void Inputs::derive(std::string_view name, std::string where, std::string text) {
  Input& input = mutable_at(name);
  input.origin = Origin::kDefault;
  input.where = std::move(where);
  input.text = std::move(text);
}

}  // namespace detour::config
