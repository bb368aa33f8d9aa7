#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/build_config.h"
#include "config/command_line.h"
#include "config/go_values.h"
#include "config/suggest.h"

namespace detour::config {
namespace {

constexpr std::string_view kConfigVariable = "DETOUR_CONFIG";

constexpr std::string_view kServeIntroduction =
    "Runs a DERP relay with STUN for Tailscale clients. "
    "With a DNS name, give it the certificate (--cert and --key, or --cert-dir) or let it get one "
    "(--cert-mode letsencrypt). With an IP address as host name it makes its own certificate once, "
    "which clients pin. It prints the DERP map to paste.";

constexpr std::string_view kConfigIntroduction =
    "Prints every setting of a relay as it would be with these options, this environment and this "
    "file, in the form of a configuration file, and where each value is from. Takes the options of "
    "`detour serve`. Secrets are never printed.";

constexpr std::string_view kFooter =
    "Every option can be set in the environment, as DETOUR_ or DERP_ and its name in capitals "
    "with\n"
    "underscores: DERP_HTTP_PORT=8080, DERP_STUN=false. These names work as well:\n{}\n\n"
    "It can also be written into the file of --config, which is TOML: http-port = 8080\n"
    "An option goes before the environment, the environment before the file, the file before the\n"
    "default; `detour config` shows what came of it.\n\n"
    "Other environment variables: STATE_DIRECTORY (where key and certificate are kept), \n"
    "SSL_CERT_FILE and SSL_CERT_DIR (trusted roots), DETOUR_CONFIG (the file of --config).\n\n"
    "Examples:\n"
    "  detour serve --hostname 203.0.113.7\n"
    "      port 443 on all addresses, a self-signed certificate that clients pin\n"
    "  detour serve --hostname derp.example.com --listen :8443 \\\n"
    "      --cert /etc/letsencrypt/live/derp.example.com/fullchain.pem \\\n"
    "      --key /etc/letsencrypt/live/derp.example.com/privkey.pem\n"
    "      port 8443 with a certificate that another program keeps\n\n"
    "Exit status: 0 after a clean end, 1 when it cannot run, 2 when the command line is not "
    "understood.";

/// What people who know derper type, where there is no such option.
struct DerperHabit {
  std::string_view typed;
  std::string_view advice;
};
constexpr std::array kDerperHabits = std::to_array<DerperHabit>({
    {"dev", "use --listen 127.0.0.1:3340 --no-tls"},
    {"version", "it is a subcommand: detour version"},
    {"secrets-url",
     "it is one of derper's flags alone: put the mesh key into a file and name it with "
     "--mesh-psk-file"},
    {"secrets-path-prefix",
     "it is one of derper's flags alone: put the mesh key into a file and name it with "
     "--mesh-psk-file"},
    {"secrets-cache-dir",
     "it is one of derper's flags alone: put the mesh key into a file and name it with "
     "--mesh-psk-file"},
    {"mesh-key",
     "others could read it in the list of processes: use --mesh-psk-file, or "
     "DETOUR_MESH_KEY in the environment"},
});

/// Breaks text at spaces into lines of at most `width`, each after the first with `indent` in
/// front.
std::string wrapped(std::string_view text, std::size_t width, const std::string& indent) {
  std::string out;
  std::size_t line_size = 0;
  while (!text.empty()) {
    const auto end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line_size > 0 && line_size + 1 + word.size() > width) {
      out += "\n" + indent;
      line_size = 0;
    } else if (line_size > 0) {
      out += ' ';
      ++line_size;
    }
    out += word;
    line_size += word.size();
  }
  return out;
}

/// Each option on a line of its own with its meaning below it, in 80 columns.
class HelpFormatter final : public CLI::Formatter {
 public:
  std::string make_description(const CLI::App* app) const override {
    return wrapped(app->get_description(), kWidth, "") + "\n\n";
  }
  std::string make_option(const CLI::Option* option, bool) const override {
    std::string names;
    for (const auto& name : option->get_snames()) names += fmt::format("-{}, ", name);
    for (const auto& name : option->get_lnames())
      if (name.size() > 1) names += fmt::format("--{}, ", name);
    names.erase(names.size() - 2);
    const bool has_value = option->get_expected_min() > 0;
    const std::string value = has_value ? " " + option->get_type_name() : "";
    return fmt::format("  {}{}\n{}{}\n", names, value, kIndent,
                       wrapped(option->get_description(), kWidth - kIndent.size(), kIndent));
  }

 private:
  static constexpr std::size_t kWidth = 80;
  inline static const std::string kIndent = "      ";
};

/// The variables that are not named like the option.
std::string further_variables() {
  std::string text;
  for (const auto& row : settings_table()) {
    if (!row.has_option) continue;
    std::vector<std::string_view> names;
    for (const auto name : row.variables)
      if (!name.empty()) names.push_back(name);
    if (!row.derper_variable.empty() && !row.derper_variable.starts_with("DETOUR_"))
      names.push_back(row.derper_variable);
    if (!names.empty())
      text +=
          fmt::format("{}  {} (--{})", text.empty() ? "" : "\n", fmt::join(names, ", "), row.name);
  }
  return text;
}

/// An option as CLI11 fills it in. Everything stays text, so that all problems can be said at once.
struct Option {
  const SettingRow* row = nullptr;
  std::string text;                ///< Of a scalar.
  std::vector<std::string> texts;  ///< Of a list: one for each time it was given.
  CLI::Option* option = nullptr;
};

class ServeCommandLine {
 public:
  ServeCommandLine(const Environment& environment, const Program& program)
      : environment_(environment),
        program_(program),
        app_(std::string(program.subcommand == "serve" ? kServeIntroduction : kConfigIntroduction),
             fmt::format("{} {}", program.name, program.subcommand)) {
    app_.footer(fmt::format(kFooter, further_variables()));
    app_.allow_extras();
    app_.set_help_flag("-h,--help", "Print this help and exit");
    app_.formatter(std::make_shared<HelpFormatter>());
    app_.add_option("--config", config_file_,
                    "file with settings, in TOML (default: none, or DETOUR_CONFIG)")
        ->type_name("FILE")
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    if (program.subcommand == "serve")
      app_.add_flag("--check", check_only_,
                    "look whether it could run (settings, key, certificate, files), say what is "
                    "wrong, and end");
    else
      app_.add_flag("--json", as_json_, "as JSON");
    for (const auto& row : settings_table())
      if (row.has_option) add(row);
  }

  CommandLine parse(std::span<const std::string> args) {
    for (const auto& arg : args)
      if (auto advice = single_dash_advice(arg)) return usage_error(*advice);
    // CLI11 takes its arguments from the back.
    std::vector<std::string> reversed(args.rbegin(), args.rend());
    try {
      app_.parse(reversed);
    } catch (const CLI::CallForHelp&) {
      return std::unexpected(Exit{.status = 0, .out = app_.help() + "\n", .err = ""});
    } catch (const CLI::ArgumentMismatch& error) {
      const std::string_view what = error.what();
      return usage_error(fmt::format("option {} needs a value", what.substr(0, what.find(':'))));
    } catch (const CLI::ParseError& error) {
      return usage_error(error.what());
    }
    if (const auto extras = app_.remaining(); !extras.empty())
      return usage_error(unknown_argument(extras.front()));

    Remarks remarks;
    const Inputs inputs = read_inputs(remarks);
    Start start = build_start(Personality::kDetour, inputs, environment_, program_, remarks);
    start.check_only = check_only_;
    start.as_json = as_json_;
    if (remarks.problems.empty()) return start;
    std::string said;
    for (const auto& problem : remarks.problems)
      said += fmt::format("{} {}: {}\n", program_.name, program_.subcommand, problem);
    return std::unexpected(Exit{.status = kExitFatal, .out = "", .err = said});
  }

 private:
  std::unexpected<Exit> usage_error(std::string_view message) const {
    return std::unexpected(
        Exit{.status = kExitUsage,
             .out = "",
             .err = fmt::format("{0} {1}: {2}\nRun `{0} {1} --help` for all options.\n",
                                program_.name, program_.subcommand, message)});
  }

  void add(const SettingRow& row) {
    Option& target = options_.emplace_back();
    target.row = &row;
    std::string names;
    for (const auto alias : row.aliases)
      if (alias.size() == 1) names += fmt::format("-{0},--{0},", alias);
    names += fmt::format("--{}", row.name);
    for (const auto alias : row.aliases)
      if (alias.size() > 1) names += fmt::format(",--{}", alias);
    std::string help(row.help);
    if (const auto fallback = help_default(row); !fallback.empty())
      help += fmt::format(" (default {})", fallback);

    if (row.kind == Kind::kSwitch)
      target.option = app_.add_flag(fmt::format("{0},!--no-{1}", names, row.name), target.text);
    else if (is_list(row.kind))
      target.option = app_.add_option(names, target.texts)->allow_extra_args(false);
    else
      target.option = app_.add_option(names, target.text);
    if (row.kind != Kind::kSwitch) target.option->type_name(std::string(value_name(row)));
    target.option->description(help)
        ->group(std::string(heading(row.group)))
        ->multi_option_policy(is_list(row.kind) ? CLI::MultiOptionPolicy::TakeAll
                                                : CLI::MultiOptionPolicy::TakeLast);
  }

  [[nodiscard]] std::string help_default(const SettingRow& row) const {
    if (!row.help_default.empty()) return std::string(row.help_default);
    const auto fallback = default_of(row, Personality::kDetour, environment_);
    if (row.kind == Kind::kSwitch) return fallback.text == "true" ? "on" : "off";
    return fallback.text;
  }

  Inputs read_inputs(Remarks& remarks) {
    Inputs inputs(Personality::kDetour, environment_);
    std::string path = config_file_;
    if (path.empty()) path = environment_.get(kConfigVariable);
    if (!path.empty()) {
      const auto content = environment_.read_file(path);
      if (content)
        read_config_file(path, *content, inputs, remarks);
      else
        remarks.problems.push_back(fmt::format("configuration file {}", content.error()));
    }
    read_variables(environment_, inputs, remarks);
    for (const auto& option : options_) {
      if (option.option->count() == 0) continue;
      auto where = fmt::format("option --{}", option.row->name);
      if (is_list(option.row->kind))
        inputs.set_texts(*option.row, Origin::kFlag, std::move(where), option.texts);
      else
        inputs.set(*option.row, Origin::kFlag, std::move(where), option.text);
    }
    return inputs;
  }

  [[nodiscard]] std::vector<std::string> long_names() const {
    std::vector<std::string> names;
    for (const CLI::Option* option : app_.get_options())
      for (const auto& name : option->get_lnames())
        if (name.size() > 1) names.push_back(name);
    return names;
  }

  /// The name in `--name=value` or `-name`; empty when it is not an option.
  static std::string_view name_in(std::string_view arg) {
    if (!arg.starts_with('-')) return {};
    arg.remove_prefix(arg.starts_with("--") ? 2 : 1);
    return arg.substr(0, arg.find('='));
  }

  /// derper's flags may have one dash, which here would be a row of one-letter options.
  [[nodiscard]] std::optional<std::string> single_dash_advice(std::string_view arg) const {
    if (arg.starts_with("--") || name_in(arg).size() < 2) return std::nullopt;
    const auto name = name_in(arg);
    const auto names = long_names();
    if (std::ranges::find(names, name) != names.end())
      return fmt::format("unknown option {}: write it with two dashes, -{}", arg, arg);
    const auto habit = std::ranges::find(kDerperHabits, name, &DerperHabit::typed);
    if (habit == kDerperHabits.end()) return std::nullopt;
    return fmt::format("unknown option {}: {}", arg, habit->advice);
  }

  [[nodiscard]] std::string unknown_argument(std::string_view arg) const {
    const auto name = name_in(arg);
    if (name.empty()) return fmt::format("\"{}\" does not belong to any option", arg);
    const auto habit = std::ranges::find(kDerperHabits, name, &DerperHabit::typed);
    // What stands behind an equals sign may be a secret.
    const auto shown = habit == kDerperHabits.end() ? arg : arg.substr(0, arg.find('='));
    if (habit != kDerperHabits.end())
      return fmt::format("unknown option {}: {}", shown, habit->advice);
    const auto names = long_names();
    const std::vector<std::string_view> views(names.begin(), names.end());
    const auto meant = suggest(name, views);
    return meant ? fmt::format("unknown option {}: did you mean --{}?", arg, *meant)
                 : fmt::format("unknown option {}", arg);
  }

  const Environment& environment_;
  const Program& program_;
  CLI::App app_;
  std::string config_file_;
  bool check_only_ = false;
  bool as_json_ = false;
  std::deque<Option> options_;  ///< CLI11 points into them.
};

}  // namespace

CommandLine parse_serve_command_line(std::span<const std::string> args,
                                     const Environment& environment, const Program& program) {
  return ServeCommandLine(environment, program).parse(args);
}

}  // namespace detour::config
