#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include "config/command_line.h"

/// The effective values, for the log, for people and for programs.
namespace detour::config {
namespace {

std::string_view origin_name(Origin origin) {
  switch (origin) {
    case Origin::kDefault:
      break;
    case Origin::kFile:
      return "file";
    case Origin::kEnvironment:
      return "environment";
    case Origin::kFlag:
      return "flag";
  }
  return "default";
}

std::string number_text(double number) {
  if (std::isinf(number)) return "inf";
  const std::string text = fmt::format("{}", number);
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

std::string toml_string(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      quoted += fmt::format("\\{}", c);
    else if (byte < 0x20 || byte == 0x7f)
      quoted += fmt::format("\\u{:04X}", byte);
    else
      quoted += c;
  }
  return quoted + '"';
}

struct TomlText {
  std::string operator()(bool value) const { return value ? "true" : "false"; }
  std::string operator()(std::int64_t value) const { return fmt::format("{}", value); }
  std::string operator()(double value) const { return number_text(value); }
  std::string operator()(const std::string& value) const { return toml_string(value); }
  std::string operator()(const std::vector<std::string>& values) const {
    std::vector<std::string> quoted;
    for (const auto& value : values) quoted.push_back(toml_string(value));
    return fmt::format("[{}]", fmt::join(quoted, ", "));
  }
};

struct PlainText {
  std::string operator()(bool value) const { return value ? "true" : "false"; }
  std::string operator()(std::int64_t value) const { return fmt::format("{}", value); }
  std::string operator()(double value) const {
    return std::isinf(value) ? "+Inf" : fmt::format("{}", value);
  }
  std::string operator()(const std::string& value) const { return value; }
  std::string operator()(const std::vector<std::string>& values) const {
    return fmt::format("{}", fmt::join(values, ","));
  }
};

nlohmann::ordered_json json_value(const SettingValue& value) {
  // JSON has no infinity.
  if (const auto* number = std::get_if<double>(&value); number != nullptr && std::isinf(*number))
    return "+Inf";
  return std::visit([](const auto& plain) { return nlohmann::ordered_json(plain); }, value);
}

}  // namespace

std::string to_text(const SettingValue& value) {
  return std::visit(PlainText{}, value);
}

std::string shown(const Setting& setting) {
  if (setting.is_secret) return setting.is_set ? "(secret)" : "";
  return to_text(setting.value);
}

std::vector<std::string> describe(const Start& start) {
  std::vector<std::string> lines;
  std::vector<std::string> defaults;
  for (const auto& setting : start.settings) {
    const std::string value = shown(setting);
    if (setting.source != "default")
      lines.push_back(
          fmt::format("setting: {} = {} (from {})", setting.name, value, setting.source));
    else if (!value.empty())
      defaults.push_back(fmt::format("{}={}", setting.name, value));
  }
  if (!defaults.empty())
    lines.push_back(fmt::format("settings left at their defaults: {}", fmt::join(defaults, ", ")));
  return lines;
}

std::string settings_as_toml(const Start& start) {
  constexpr std::size_t kColumnMax = 44;
  std::vector<std::pair<std::string, std::string_view>> lines;
  std::size_t column = 0;
  for (const auto& setting : start.settings) {
    std::string line =
        setting.is_secret
            ? fmt::format("# {} is {}", setting.name,
                          setting.is_set ? "set, and a secret" : "not set")
            : fmt::format("{} = {}", setting.name, std::visit(TomlText{}, setting.value));
    if (line.size() <= kColumnMax) column = std::max(column, line.size());
    lines.emplace_back(std::move(line), setting.source);
  }
  std::string text;
  for (const auto& [line, source] : lines)
    text += fmt::format("{:<{}}  # {}\n", line, column, source);
  return text;
}

std::string settings_as_json(const Start& start) {
  nlohmann::ordered_json all = nlohmann::ordered_json::object();
  for (const auto& setting : start.settings) {
    nlohmann::ordered_json one;
    if (setting.is_secret) {
      one["secret"] = true;
      one["set"] = setting.is_set;
    } else {
      one["value"] = json_value(setting.value);
    }
    one["from"] = origin_name(setting.origin);
    one["source"] = setting.source;
    one["reloadable"] = setting.reloadable;
    all[setting.name] = std::move(one);
  }
  return all.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace detour::config
