#include "cli/arguments.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "config/command_line.h"
#include "config/suggest.h"

namespace detour::cli {
namespace {

/// CLI11's help in plainer words: what an option takes, and no more.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_option_opts(const CLI::Option* option) const override {
    if (option->get_type_size() == 0) return {};
    std::string text = " " + what_it_takes(option->get_type_name());
    if (!option->get_default_str().empty())
      text += fmt::format(" (default {})", option->get_default_str());
    return text;
  }

  std::string make_option_usage(const CLI::Option* option) const override {
    const auto name =
        make_option_name(option, true) + (option->get_expected_max() > 1 ? "..." : "");
    return option->get_required() ? name : "[" + name + "]";
  }

 private:
  /// From "INT:INT in [1 - 999]", "FLOAT", "TEXT" and the like.
  static std::string what_it_takes(const std::string& type) {
    const auto range = type.find(" in [");
    const bool number =
        range != std::string::npos || type == "INT" || type == "UINT" || type == "FLOAT";
    if (!number) return type;
    if (range == std::string::npos) return "NUMBER";
    auto limits = type.substr(range + 5, type.size() - range - 6);
    limits.replace(limits.find(" - "), 3, " to ");
    return "NUMBER from " + limits;
  }
};

/// The option of `app` that was probably meant.
std::optional<std::string> meant_option(const CLI::App& app, std::string_view word) {
  word = word.substr(0, word.find('='));
  if (!word.starts_with('-')) return std::nullopt;
  std::vector<std::string> names;
  for (const auto* option : app.get_options()) {
    for (const auto& name : option->get_lnames()) names.push_back("--" + name);
  }
  const std::vector<std::string_view> views(names.begin(), names.end());
  const auto meant = config::suggest(word, views);
  return meant ? std::optional(std::string(*meant)) : std::nullopt;
}

std::string what_is_wrong(const CLI::App& app, const CLI::ParseError& error) {
  // Only numbers are converted.
  if (dynamic_cast<const CLI::ConversionError*>(&error) != nullptr)
    return fmt::format("{}; write a number", error.what());
  if (dynamic_cast<const CLI::ExtrasError*>(&error) == nullptr) return error.what();
  const auto left = app.remaining();
  if (left.empty()) return error.what();
  const auto meant = meant_option(app, left.front());
  return fmt::format("\"{}\" is not understood{}", left.front(),
                     meant ? fmt::format(": did you mean {}?", *meant) : "");
}

}  // namespace

std::span<const std::string> split_at_dashes(std::span<const std::string> args,
                                             std::vector<std::string>* behind) {
  const auto dashes = std::ranges::find(args, "--");
  if (dashes == args.end()) return args;
  behind->assign(dashes + 1, args.end());
  return args.first(static_cast<std::size_t>(dashes - args.begin()));
}

std::optional<int> parse_arguments(CLI::App& app, std::span<const std::string> args) {
  app.formatter(std::make_shared<HelpFormatter>());
  try {
    // CLI11 takes the arguments last first.
    app.parse(std::vector<std::string>(args.rbegin(), args.rend()));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    fmt::print(stderr, "{}: {}\nRun `{} --help` for options and examples.\n", app.get_name(),
               what_is_wrong(app, error), app.get_name());
    return config::kExitUsage;
  }
  return std::nullopt;
}

int usage_error(const Call& call, std::string_view subcommand, std::string_view what) {
  fmt::print(stderr, "{} {}: {}\n", call.program, subcommand, what);
  return config::kExitUsage;
}

}  // namespace detour::cli
