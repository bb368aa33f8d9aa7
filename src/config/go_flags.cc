#include "config/go_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <optional>

#include "config/go_values.h"
#include "config/suggest.h"

namespace detour::config {
namespace {

std::unexpected<GoFlagError> error(std::string message, std::string hint = {}) {
  return std::unexpected(
      GoFlagError{.help = false, .message = std::move(message), .hint = std::move(hint)});
}

std::string_view expectation(GoFlagType type) {
  switch (type) {
    case GoFlagType::kBool:
      return "true or false";
    case GoFlagType::kInt:
      return "a whole number";
    case GoFlagType::kFloat:
      return "a number";
    case GoFlagType::kDuration:
      return "a duration with its unit, like 15s, 500ms or 1h30m";
    case GoFlagType::kString:
      break;
  }
  return "a text";
}

std::optional<GoValueError> check(GoFlagType type, std::string_view text) {
  const auto error_of = [](const auto& parsed) {
    return parsed ? std::nullopt : std::optional(parsed.error());
  };
  switch (type) {
    case GoFlagType::kBool:
      if (!parse_go_bool(text)) return GoValueError::kSyntax;
      return std::nullopt;
    case GoFlagType::kInt:
      return error_of(parse_go_int(text));
    case GoFlagType::kFloat:
      return error_of(parse_go_float(text));
    case GoFlagType::kDuration:
      return error_of(parse_go_duration(text));
    case GoFlagType::kString:
      break;
  }
  return std::nullopt;
}

std::unexpected<GoFlagError> invalid(const GoFlag& flag, std::string_view value,
                                     GoValueError reason) {
  const std::string_view why =
      reason == GoValueError::kRange ? "value out of range" : "parse error";
  const std::string hint = fmt::format("-{} takes {}", flag.name, expectation(flag.type));
  if (flag.type == GoFlagType::kBool)
    return error(fmt::format("invalid boolean value \"{}\" for -{}: {}", value, flag.name, why),
                 hint);
  return error(fmt::format("invalid value \"{}\" for flag -{}: {}", value, flag.name, why), hint);
}

std::unexpected<GoFlagError> unknown(std::string_view name, std::span<const GoFlag> flags) {
  std::vector<std::string_view> names;
  for (const auto& flag : flags) names.push_back(flag.name);
  const auto meant = suggest(name, names);
  return error(fmt::format("flag provided but not defined: -{}", name),
               meant ? fmt::format("did you mean -{}?", *meant) : std::string());
}

}  // namespace

std::expected<GoFlagValues, GoFlagError> parse_go_flags(std::span<const std::string> args,
                                                        std::span<const GoFlag> flags) {
  GoFlagValues values;
  std::size_t next = 0;
  while (next < args.size()) {
    const std::string_view arg = args[next];
    if (arg.size() < 2 || arg[0] != '-') break;
    ++next;
    if (arg == "--") break;

    std::string_view name = arg.substr(arg[1] == '-' ? 2 : 1);
    if (name.empty() || name[0] == '-' || name[0] == '=')
      return error(fmt::format("bad flag syntax: {}", arg));
    std::optional<std::string> value;
    if (const auto equals = name.find('='); equals != std::string_view::npos) {
      value = name.substr(equals + 1);
      name = name.substr(0, equals);
    }

    const auto flag = std::ranges::find(flags, name, &GoFlag::name);
    if (flag == flags.end()) {
      if (name == "h" || name == "help")
        return std::unexpected(GoFlagError{.help = true, .message = "", .hint = ""});
      return unknown(name, flags);
    }
    if (!value && flag->type == GoFlagType::kBool) value = "true";
    if (!value && next == args.size())
      return error(fmt::format("flag needs an argument: -{}", name));
    if (!value) value = args[next++];
    if (const auto wrong = check(flag->type, *value)) return invalid(*flag, *value, *wrong);
    values.set.insert_or_assign(std::string(name), *value);
  }
  values.rest.assign(args.begin() + static_cast<std::ptrdiff_t>(next), args.end());
  return values;
}

}  // namespace detour::config
