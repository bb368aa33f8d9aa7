#include "config/build_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include "config/address.h"
#include "config/go_values.h"

namespace detour::config {
namespace {

constexpr std::int64_t kPortMax = 65535;
constexpr auto kGoKeepaliveTime = std::chrono::seconds(15);

/// How derper calls it, and how it stays for both personalities.
constexpr std::string_view kQueueDepthVariable = "TS_DEBUG_DERP_PER_CLIENT_SEND_QUEUE_DEPTH";
constexpr std::string_view kIncompleteChainVariable = "DETOUR_ALLOW_INCOMPLETE_CHAIN";

/// derper's variables that would change something there and do nothing here yet.
constexpr std::array kIgnoredVariables = std::to_array<std::string_view>({
    "TS_DEBUG_VERBOSE_DROPS",
    "DERP_DEBUG_LOGS",
    "DERP_PROBER_DEBUG_LOGS",
});

class Builder {
 public:
  Builder(Personality personality, const Inputs& inputs, const Environment& environment,
          Remarks& remarks)
      : personality_(personality), inputs_(inputs), environment_(environment), remarks_(remarks) {}

  Config build() {
    config_.personality = personality_;
    read_listen();
    config_.tls = read_bool(inputs_.tls);
    read_hostname();
    read_files();
    read_ports();
    read_home();
    read_limits();
    read_queue_depth();
    read_debug_access();
    for (const auto name : kIgnoredVariables)
      if (!environment_.get(name).empty())
        remarks_.warnings.push_back(
            fmt::format("environment variable {} is not built yet and does nothing", name));
    return std::move(config_);
  }

  /// Settings whose value was only found here: the host name that follows the listen address.
  [[nodiscard]] const std::string& hostname_source() const { return hostname_source_; }

 private:
  void problem(std::string text) { remarks_.problems.push_back(std::move(text)); }

  void invalid(const Input& input, std::string_view expected) {
    problem(fmt::format("{}: {} is needed", input.described(), expected));
  }

  bool read_bool(const Input& input) {
    const auto value = parse_go_bool(input.text);
    if (!value) invalid(input, "true or false");
    return value.value_or(false);
  }

  std::optional<std::uint16_t> read_port(const Input& input, bool may_be_off) {
    if (may_be_off && input.text == "off") return std::nullopt;
    const auto value = parse_go_int(input.text);
    if (value && may_be_off && *value < 0) return std::nullopt;
    if (!value || *value < 0 || *value > kPortMax) {
      invalid(input,
              may_be_off ? "a port from 0 to 65535, or -1 for none," : "a port from 0 to 65535");
      return std::nullopt;
    }
    return static_cast<std::uint16_t>(*value);
  }

  Duration read_duration(const Input& input, bool negative_is_off) {
    const auto value = parse_go_duration(input.text);
    if (!value) {
      invalid(input, "a duration with its unit, like 15s, 500ms or 1h30m,");
      return {};
    }
    if (*value < std::chrono::nanoseconds(0)) {
      if (!negative_is_off) invalid(input, "a duration that is not negative");
      return {};
    }
    return *value;
  }

  void read_listen() {
    const auto parsed = parse_listen_address(inputs_.listen.text, inputs_.listen.source);
    if (!parsed) {
      problem(parsed.error());
      return;
    }
    config_.listen = parsed->address;
    remarks_.notices.push_back(parsed->notice);
  }

  void read_hostname() {
    const Input& input = inputs_.hostname;
    hostname_source_ = input.source;
    if (input.text.empty()) {
      config_.hostname = config_.listen.host;
      hostname_source_ = "the listen address";
      if (config_.hostname.empty() && config_.tls)
        problem(fmt::format(
            "{0} is not set, and {1} {2} means all addresses, so it is not known what clients will "
            "call this relay: set {0} to the DNS name that its certificate is for, or to this "
            "machine's public IP address (then a certificate is made for it that clients pin)",
            input.flag, inputs_.listen.flag, to_text(config_.listen)));
      return;
    }
    auto name = parse_hostname(input.text, input.source);
    if (!name) {
      // Without TLS nothing depends on it, and derper does not look at it then.
      if (config_.tls) problem(name.error());
      if (!config_.tls) remarks_.warnings.push_back(name.error());
      return;
    }
    if (*name != input.text)
      remarks_.notices.push_back(
          fmt::format("host name \"{}\" ({}): used as {}", input.text, input.source, *name));
    config_.hostname = std::move(*name);
  }

  void read_files() {
    config_.key_file = inputs_.key_file.text;
    if (config_.key_file.empty())
      problem(
          fmt::format("{} is not set: it names the file that keeps this relay's key (it is made "
                      "when it does not exist), for example {} /var/lib/derper/derper.key",
                      inputs_.key_file.flag, inputs_.key_file.flag));
    read_incomplete_chain();
    if (!config_.tls) return;

    config_.cert_file = inputs_.cert_file.text;
    config_.cert_key_file = inputs_.cert_key_file.text;
    config_.cert_dir = inputs_.cert_dir.text;
    if (config_.cert_file.empty() && !config_.cert_key_file.empty())
      problem(fmt::format("{} is set and {} is not: name the certificate's file as well",
                          inputs_.cert_key_file.flag, inputs_.cert_file.flag));
    if (config_.cert_file.empty() && config_.cert_dir.empty())
      problem(
          fmt::format("{} is not set, and neither HOME nor XDG_CACHE_HOME says where it could be: "
                      "set it to the folder with the certificate",
                      inputs_.cert_dir.flag));
    if (!config_.cert_file.empty() && inputs_.cert_dir.is_set)
      remarks_.warnings.push_back(fmt::format("{} is not looked at, since {} names the certificate",
                                              inputs_.cert_dir.flag, inputs_.cert_file.flag));
  }

  void read_incomplete_chain() {
    config_.allow_incomplete_chain = read_bool(inputs_.allow_incomplete_chain);
    const auto variable = environment_.get(kIncompleteChainVariable);
    if (variable.empty() || inputs_.allow_incomplete_chain.is_set) return;
    const auto value = parse_go_bool(variable);
    if (!value)
      problem(fmt::format("environment variable {}=\"{}\": true or false is needed",
                          kIncompleteChainVariable, variable));
    config_.allow_incomplete_chain = value.value_or(false);
  }

  void read_ports() {
    config_.http_port = read_port(inputs_.http_port, /*may_be_off=*/true);
    if (!config_.tls) config_.http_port = std::nullopt;  // The main listener speaks it already.
    config_.stun = read_bool(inputs_.stun);
    config_.stun_port = read_port(inputs_.stun_port, /*may_be_off=*/false).value_or(0);
    config_.derp = read_bool(inputs_.derp);
    if (config_.http_port && *config_.http_port != 0 && *config_.http_port == config_.listen.port)
      problem(fmt::format(
          "{} and {} are both port {}: choose another one, or switch plain HTTP off "
          "with {}=-1",
          inputs_.listen.flag, inputs_.http_port.flag, *config_.http_port, inputs_.http_port.flag));
  }

  void read_home() {
    const std::string& text = inputs_.home.text;
    if (text.empty()) return;
    if (text == "blank") {
      config_.home = HomePage::kBlank;
      return;
    }
    const bool is_url = text.starts_with("http://") || text.starts_with("https://");
    // It becomes a header of an answer: nothing may break out of that line.
    const bool is_clean = std::ranges::all_of(text, [](char c) { return c > 0x20 && c < 0x7f; });
    if (!is_url || !is_clean) {
      invalid(inputs_.home,
              "nothing, the word blank, or a URL that begins with https:// or http://");
      return;
    }
    config_.home = HomePage::kRedirect;
    config_.home_redirect = text;
  }

  void read_limits() {
    config_.tcp_write_timeout = read_duration(inputs_.tcp_write_timeout, false);
    config_.tcp_user_timeout = read_duration(inputs_.tcp_user_timeout, false);
    config_.tcp_keepalive_time = read_duration(inputs_.tcp_keepalive_time, true);
    // For derper a negative time is off, and zero means Go's own default.
    if (personality_ == Personality::kDerper &&
        parse_go_duration(inputs_.tcp_keepalive_time.text) == std::chrono::nanoseconds(0))
      config_.tcp_keepalive_time = kGoKeepaliveTime;
    config_.gather = read_duration(inputs_.gather, false);
    if (config_.gather > kGatherMax)
      invalid(inputs_.gather, fmt::format("a duration of at most {}", to_go_text(kGatherMax)));
    const auto workers = parse_go_int(inputs_.workers.text);
    if (!workers || *workers < 1 || *workers > kWorkersMax) {
      invalid(inputs_.workers, fmt::format("a number from 1 to {}", kWorkersMax));
      return;
    }
    config_.workers = static_cast<std::uint32_t>(*workers);
  }

  void read_queue_depth() {
    const auto text = environment_.get(kQueueDepthVariable);
    if (text.empty()) return;
    const auto depth = parse_go_int(text);
    if (!depth || *depth > kQueuePacketsMaxLimit) {
      problem(fmt::format("environment variable {}=\"{}\": a number of packets up to {} is needed",
                          kQueueDepthVariable, text, kQueuePacketsMaxLimit));
      return;
    }
    if (*depth > 0) config_.queue_packets_max = static_cast<std::uint32_t>(*depth);
  }

  void read_debug_access() {
    config_.debug_key_file = environment_.get("TS_DEBUG_KEY_PATH");
    config_.debug_allow_ip = environment_.get("TS_ALLOW_DEBUG_IP");
    if (!config_.debug_allow_ip.empty() && !is_ip(config_.debug_allow_ip))
      remarks_.warnings.push_back(
          fmt::format("environment variable TS_ALLOW_DEBUG_IP=\"{}\" is not an IP address and lets "
                      "nobody in",
                      config_.debug_allow_ip));
    std::string_view list = environment_.get("TS_DEBUG_TRUSTED_CIDRS");
    while (!list.empty()) {
      const auto comma = std::min(list.find(','), list.size());
      const auto entry = list.substr(0, comma);
      list.remove_prefix(std::min(comma + 1, list.size()));
      if (!is_cidr(entry)) {
        problem(
            fmt::format("environment variable TS_DEBUG_TRUSTED_CIDRS: \"{}\" is not an address "
                        "range like 192.0.2.0/24 (a single address is written 192.0.2.7/32)",
                        entry));
        continue;
      }
      config_.debug_trusted_cidrs.emplace_back(entry);
    }
  }

  const Personality personality_;
  const Inputs& inputs_;
  const Environment& environment_;
  Remarks& remarks_;
  Config config_;
  std::string hostname_source_;
};

Setting as_setting(const Input& input, std::string value) {
  return {.name = input.name, .value = std::move(value), .source = input.source};
}

std::vector<Setting> settings_of(const Inputs& inputs, const Config& config,
                                 const std::string& hostname_source,
                                 const Environment& environment) {
  std::vector<Setting> settings;
  settings.push_back(as_setting(inputs.listen, to_text(config.listen)));
  settings.push_back(as_setting(inputs.tls, fmt::format("{}", config.tls)));
  settings.push_back(as_setting(inputs.hostname, config.hostname));
  settings.back().source = hostname_source;
  settings.push_back(as_setting(inputs.key_file, config.key_file));
  if (!config.cert_file.empty()) {
    settings.push_back(as_setting(inputs.cert_file, config.cert_file));
    if (!config.cert_key_file.empty())
      settings.push_back(as_setting(inputs.cert_key_file, config.cert_key_file));
  } else if (config.tls) {
    settings.push_back(as_setting(inputs.cert_dir, config.cert_dir));
  }
  settings.push_back(
      as_setting(inputs.allow_incomplete_chain, fmt::format("{}", config.allow_incomplete_chain)));
  if (!environment.get(kIncompleteChainVariable).empty() && !inputs.allow_incomplete_chain.is_set)
    settings.back().source = fmt::format("environment variable {}", kIncompleteChainVariable);
  settings.push_back(as_setting(inputs.http_port,
                                config.http_port ? fmt::format("{}", *config.http_port) : "off"));
  settings.push_back(as_setting(inputs.stun, fmt::format("{}", config.stun)));
  settings.push_back(as_setting(inputs.stun_port, fmt::format("{}", config.stun_port)));
  settings.push_back(as_setting(inputs.derp, fmt::format("{}", config.derp)));
  settings.push_back(
      as_setting(inputs.home, inputs.home.text.empty() ? "default page" : inputs.home.text));
  settings.push_back(as_setting(inputs.workers, fmt::format("{}", config.workers)));
  settings.push_back(as_setting(inputs.tcp_write_timeout, to_go_text(config.tcp_write_timeout)));
  settings.push_back(as_setting(inputs.tcp_user_timeout, to_go_text(config.tcp_user_timeout)));
  settings.push_back(as_setting(inputs.tcp_keepalive_time, to_go_text(config.tcp_keepalive_time)));

  settings.push_back(as_setting(inputs.gather, to_go_text(config.gather)));
  const auto add_variable = [&](std::string name, std::string value, std::string_view variable) {
    if (!environment.get(variable).empty())
      settings.push_back({.name = std::move(name),
                          .value = std::move(value),
                          .source = fmt::format("environment variable {}", variable)});
  };
  add_variable("queue-packets", fmt::format("{}", config.queue_packets_max), kQueueDepthVariable);
  add_variable("debug-key-file", config.debug_key_file, "TS_DEBUG_KEY_PATH");
  add_variable("debug-allow-ip", config.debug_allow_ip, "TS_ALLOW_DEBUG_IP");
  add_variable("debug-trusted-cidrs", fmt::format("{}", fmt::join(config.debug_trusted_cidrs, ",")),
               "TS_DEBUG_TRUSTED_CIDRS");
  return settings;
}

}  // namespace

std::string Input::described() const {
  return is_set ? fmt::format("{} \"{}\"", flag, text)
                : fmt::format("{} \"{}\" ({})", flag, text, source);
}

Start build_start(Personality personality, const Inputs& inputs, const Environment& environment,
                  const Program& program, Remarks& remarks) {
  Builder builder(personality, inputs, environment, remarks);
  Start start{.config = builder.build(), .settings = {}, .notices = {}, .warnings = {}};
  start.config.version = program.version;
  start.config.binary_name = personality == Personality::kDerper ? "derper" : "detour";
  start.settings = settings_of(inputs, start.config, builder.hostname_source(), environment);
  start.notices = remarks.notices;
  start.warnings = remarks.warnings;
  return start;
}

bool listens_on_https(const std::string& listen_text) {
  const auto parsed = parse_listen_address(listen_text, "");
  return parsed && parsed->port_is_https;
}

std::vector<std::string> describe(const Start& start) {
  std::vector<std::string> lines;
  std::vector<std::string> defaults;
  for (const auto& setting : start.settings) {
    if (setting.source == "default")
      defaults.push_back(fmt::format("{}={}", setting.name, setting.value));
    else
      lines.push_back(
          fmt::format("setting: {} = {} (from {})", setting.name, setting.value, setting.source));
  }
  if (!defaults.empty())
    lines.push_back(fmt::format("settings left at their defaults: {}", fmt::join(defaults, ", ")));
  return lines;
}

}  // namespace detour::config
