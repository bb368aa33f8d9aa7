#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/address.h"
#include "config/build_config.h"
#include "config/command_line.h"
#include "config/go_values.h"
#include "config/suggest.h"

namespace detour::config {
namespace {

constexpr std::string_view kIntroduction =
    "Runs a DERP relay with STUN for Tailscale clients. "
    "With a DNS name, give it the certificate (--cert and --key, or --cert-dir). With an IP "
    "address "
    "as host name it makes its own certificate once, which clients pin. It prints the DERP map to "
    "paste.";

constexpr std::string_view kFooter =
    "Examples:\n"
    "  detour serve --hostname 203.0.113.7\n"
    "      port 443 on all addresses, a self-signed certificate that clients pin\n"
    "  detour serve --hostname derp.example.com --listen :8443 \\\n"
    "      --cert /etc/letsencrypt/live/derp.example.com/fullchain.pem \\\n"
    "      --key /etc/letsencrypt/live/derp.example.com/privkey.pem\n"
    "      port 8443 with a certificate of Let's Encrypt\n\n"
    "Environment variables: STATE_DIRECTORY (where key and certificate are kept), SSL_CERT_FILE "
    "and\n"
    "SSL_CERT_DIR (trusted roots), DETOUR_ALLOW_INCOMPLETE_CHAIN,\n"
    "TS_DEBUG_DERP_PER_CLIENT_SEND_QUEUE_DEPTH (packets queued per client, default 32), and for "
    "the\n"
    "/debug pages TS_DEBUG_TRUSTED_CIDRS, TS_ALLOW_DEBUG_IP, TS_DEBUG_KEY_PATH.\n\n"
    "Exit status: 0 after a clean end, 1 when it cannot run, 2 when the command line is not "
    "understood.";

/// What people who know derper type, where it is not simply the same name with a dash more or less.
struct DerperHabit {
  std::string_view typed;
  std::string_view advice;
};
constexpr std::array kDerperHabits = std::to_array<DerperHabit>({
    {"certmode",
     "leave it out: --cert and --key, or --cert-dir, say where the certificate is, and "
     "for an IP address it is made"},
    {"verify-clients", "it is not built yet; let a firewall decide who reaches this relay"},
    {"verify-client-url", "it is not built yet; let a firewall decide who reaches this relay"},
    {"mesh-with", "it is not built yet; run one relay per region"},
    {"mesh-psk-file", "it is not built yet; run one relay per region"},
    {"dev", "use --listen 127.0.0.1:3340 --no-tls"},
    {"version", "it is a subcommand: detour version"},
});

/// An option as CLI11 fills it in. Everything stays text, so that all problems can be said at once.
struct Option {
  std::string name;  ///< Without dashes; how the log names it.
  std::string text;  ///< Its default until parsed.
  bool is_flag_value = false;
  CLI::Option* option = nullptr;
  std::string default_source = "default";

  [[nodiscard]] Input as_input() const {
    const bool is_set = option->count() > 0;
    return {.name = name,
            .flag = "--" + name,
            .text = text,
            .source = is_set ? fmt::format("option --{}", name) : default_source,
            .is_set = is_set};
  }
};

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

std::string state_directory(const Environment& environment) {
  // systemd gives a list when several are configured; the first one is ours.
  if (const auto given = environment.get("STATE_DIRECTORY"); !given.empty())
    return std::string(given.substr(0, given.find(':')));
  if (environment.is_root) return "/var/lib/detour";
  if (const auto state = environment.get("XDG_STATE_HOME"); !state.empty())
    return fmt::format("{}/detour", state);
  if (const auto home = environment.get("HOME"); !home.empty())
    return fmt::format("{}/.local/state/detour", home);
  return {};
}

class ServeCommandLine {
 public:
  ServeCommandLine(const Environment& environment, const Program& program)
      : environment_(environment),
        program_(program),
        app_(std::string(kIntroduction), fmt::format("{} serve", program.name)) {
    app_.footer(std::string(kFooter));
    app_.allow_extras();
    app_.set_help_flag("-h,--help", "Print this help and exit");
    app_.formatter(std::make_shared<HelpFormatter>());
    add_listening();
    add_identity();
    add_relaying();
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
    Start start = build_start(Personality::kDetour, make_inputs(), environment_, program_, remarks);
    if (remarks.problems.empty()) return start;
    std::string said;
    for (const auto& problem : remarks.problems)
      said += fmt::format("{} serve: {}\n", program_.name, problem);
    return std::unexpected(Exit{.status = kExitFatal, .out = "", .err = said});
  }

 private:
  std::unexpected<Exit> usage_error(std::string_view message) const {
    return std::unexpected(
        Exit{.status = kExitUsage,
             .out = "",
             .err = fmt::format("{0} serve: {1}\nRun `{0} serve --help` for all options.\n",
                                program_.name, message)});
  }

  void add_value(Option& target, const std::string& names, std::string default_text,
                 const std::string& value_name, const std::string& help, const char* group) {
    target.name = names.substr(names.rfind("--") + 2);
    target.text = std::move(default_text);
    target.option = app_.add_option(names, target.text, help)
                        ->type_name(value_name)
                        ->group(group)
                        ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  }

  void add_switch(Option& target, const std::string& names, bool on, const std::string& help,
                  const char* group) {
    target.name = names.substr(2, names.find(',') - 2);
    target.text = on ? "true" : "false";
    target.option = app_.add_flag(names, target.text, help)
                        ->group(group)
                        ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  }

  void add_listening() {
    constexpr auto kGroup = "Listening";
    add_value(listen_, "-a,--a,--listen", ":443", "ADDRESS",
              ":port, ip:port or [ip6]:port (default :443)", kGroup);
    add_switch(tls_, "--tls,!--no-tls", true,
               "TLS (default); --no-tls only behind something that speaks TLS to clients", kGroup);
    add_value(
        http_port_, "--http-port", "80", "PORT",
        "plain HTTP beside TLS, on the same address, for captive portal checks and redirects; "
        "-1 or off: none (default 80)",
        kGroup);
    add_switch(stun_, "--stun,!--no-stun", true, "answer STUN requests (default)", kGroup);
    add_value(stun_port_, "--stun-port", "3478", "PORT",
              "UDP port for STUN, on the same address (default 3478)", kGroup);
  }

  void add_identity() {
    constexpr auto kGroup = "Name, key and certificate";
    const std::string state = state_directory(environment_);
    add_value(hostname_, "--hostname", "", "NAME",
              "what clients call this relay: the DNS name of its certificate or an IP address "
              "(default: the address in --listen)",
              kGroup);
    add_value(key_file_, "-c,--c,--key-file", state.empty() ? "" : state + "/relay.key", "FILE",
              "the relay's own key, made when missing, in derper's format (default " +
                  (state.empty() ? std::string("none") : state + "/relay.key") + ")",
              kGroup);
    add_value(cert_, "--cert", "", "FILE", "TLS certificate: PEM with the full chain, in any order",
              kGroup);
    add_value(key_, "--key", "", "FILE", "private key of --cert (default: it is in the same file)",
              kGroup);
    add_value(cert_dir_, "--cert-dir,--certdir", state.empty() ? "" : state + "/certs", "FOLDER",
              "folder with <hostname>.crt and <hostname>.key, used without --cert; for an IP "
              "address the pair is made there (default " +
                  (state.empty() ? std::string("none") : state + "/certs") + ")",
              kGroup);
    cert_dir_.name = "cert-dir";
    add_switch(allow_incomplete_chain_, "--allow-incomplete-chain", false,
               "serve a certificate without its intermediate: for a private authority that every "
               "client knows",
               kGroup);
    const bool from_systemd = !environment_.get("STATE_DIRECTORY").empty();
    if (from_systemd) {
      key_file_.default_source = "environment variable STATE_DIRECTORY";
      cert_dir_.default_source = key_file_.default_source;
    }
  }

  void add_relaying() {
    constexpr auto kGroup = "Relaying";
    add_switch(derp_, "--derp,!--no-derp", true, "relay (default); --no-derp leaves all but /derp",
               kGroup);
    add_value(home_, "--home", "", "PAGE",
              "what / answers: nothing (a default page), blank, or a URL to go to", kGroup);
    add_value(workers_, "--workers", fmt::format("{}", environment_.cpus), "N",
              fmt::format("threads that relay (default: one per CPU, {} here)", environment_.cpus),
              kGroup);
    add_value(tcp_write_timeout_, "--tcp-write-timeout", "2s", "TIME",
              "disconnect a client that takes nothing for that long; 0 is never (default 2s)",
              kGroup);
    add_value(tcp_user_timeout_, "--tcp-user-timeout", "15s", "TIME",
              "disconnect when sent data stays unacknowledged for that long; 0 is the system's "
              "default (default 15s)",
              kGroup);
    add_value(tcp_keepalive_time_, "--tcp-keepalive-time", "10m", "TIME",
              "idle time before TCP keepalive probes; 0 is off (default 10m)", kGroup);
    add_value(
        gather_, "--gather", to_go_text(Config{}.gather), "TIME",
        "how long a busy worker lets packets gather, which saves CPU; 0 is off, 10ms the most "
        "(default 200us)",
        kGroup);
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
    if (habit != kDerperHabits.end())
      return fmt::format("unknown option {}: {}", arg, habit->advice);
    const auto names = long_names();
    const std::vector<std::string_view> views(names.begin(), names.end());
    const auto meant = suggest(name, views);
    return meant ? fmt::format("unknown option {}: did you mean --{}?", arg, *meant)
                 : fmt::format("unknown option {}", arg);
  }

  [[nodiscard]] Inputs make_inputs() const {
    return {.listen = listen_.as_input(),
            .tls = tls_.as_input(),
            .hostname = hostname_.as_input(),
            .key_file = key_file_.as_input(),
            .cert_dir = cert_dir_.as_input(),
            .cert_file = cert_.as_input(),
            .cert_key_file = key_.as_input(),
            .allow_incomplete_chain = allow_incomplete_chain_.as_input(),
            .http_port = http_port_.as_input(),
            .stun = stun_.as_input(),
            .stun_port = stun_port_.as_input(),
            .derp = derp_.as_input(),
            .home = home_.as_input(),
            .workers = workers_.as_input(),
            .tcp_write_timeout = tcp_write_timeout_.as_input(),
            .tcp_user_timeout = tcp_user_timeout_.as_input(),
            .tcp_keepalive_time = tcp_keepalive_time_.as_input(),
            .gather = gather_.as_input()};
  }

  const Environment& environment_;
  const Program& program_;
  CLI::App app_;
  Option listen_, tls_, http_port_, stun_, stun_port_;
  Option hostname_, key_file_, cert_, key_, cert_dir_, allow_incomplete_chain_;
  Option derp_, home_, workers_, tcp_write_timeout_, tcp_user_timeout_, tcp_keepalive_time_,
      gather_;
};

}  // namespace

CommandLine parse_serve_command_line(std::span<const std::string> args,
                                     const Environment& environment, const Program& program) {
  return ServeCommandLine(environment, program).parse(args);
}

}  // namespace detour::config
