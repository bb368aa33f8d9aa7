#include "config/build_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "config/address.h"
#include "config/go_values.h"
#include "crypto/keys.h"

namespace detour::config {
namespace {

constexpr std::int64_t kPortMax = 65535;
constexpr auto kGoKeepaliveTime = std::chrono::seconds(15);
constexpr std::size_t kMeshKeyDigits = 64;
constexpr std::size_t kAppNameSizeMax = 32;
constexpr std::string_view kNodeKeyPrefix = "nodekey:";
constexpr std::size_t kLogDropsMax = 100;

/// derper's variables that would change something there and do nothing here.
constexpr std::array kIgnoredVariables = std::to_array<std::string_view>({
    "DERP_DEBUG_LOGS",
    "DERP_PROBER_DEBUG_LOGS",
});

/// Nothing that could break out of a line of HTTP.
bool is_clean(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c > 0x20 && c < 0x7f; });
}

bool is_url(std::string_view text, bool may_be_plain) {
  const std::size_t scheme = text.starts_with("https://")                  ? 8
                             : may_be_plain && text.starts_with("http://") ? 7
                                                                           : 0;
  return scheme != 0 && text.size() > scheme && text[scheme] != '/' && is_clean(text);
}

bool is_hex(std::string_view text) {
  return std::ranges::all_of(text, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  });
}

bool is_base64(std::string_view text) {
  return std::ranges::all_of(text, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '+' ||
           c == '/' || c == '-' || c == '_' || c == '=';
  });
}

/// Reads each value by its kind, then checks what several of them have to do with each other.
struct TlsRecordsName {
  std::string_view name;
  TlsRecords records;
};
constexpr std::array kTlsRecordsNames = std::to_array<TlsRecordsName>({
    {"auto", TlsRecords::kAuto},
    {"ipsec-mb", TlsRecords::kIpsecMb},
    {"evp", TlsRecords::kEvp},
    {"openssl", TlsRecords::kOpenSsl},
});

class Builder {
 public:
  Builder(Personality personality, const Inputs& inputs, const Environment& environment,
          Remarks& remarks)
      : personality_(personality), inputs_(inputs), environment_(environment), remarks_(remarks) {}

  Config build() {
    config_.personality = personality_;
    for (const auto& input : inputs_.all()) read(input);
    check_hostname();
    check_ports();
    check_key_file();
    if (config_.tls) check_certificate();
    check_mesh();
    check_connect();
    check_log_drops();
    check_admission();
    check_watching();
    check_map_page();
    check_proxies();
    apply_derpers_keepalive();
    for (const auto name : kIgnoredVariables)
      if (!environment_.get(name).empty())
        remarks_.warnings.push_back(
            fmt::format("environment variable {} does nothing: Detour has no log of every frame; "
                        "log-drops follows the packets to single nodes",
                        name));
    return std::move(config_);
  }

  /// Settings whose value was only found here: the host name that follows the listen address.
  [[nodiscard]] const std::string& hostname_source() const { return hostname_source_; }

 private:
  void problem(std::string text) { remarks_.problems.push_back(std::move(text)); }
  void warning(std::string text) { remarks_.warnings.push_back(std::move(text)); }
  [[nodiscard]] const Input& at(std::string_view name) const { return inputs_.at(name); }
  [[nodiscard]] const std::string& flag(std::string_view name) const { return at(name).flag; }

  void invalid(const Input& input, std::string_view expected) {
    problem(fmt::format("{}: {} is needed", input.described(), expected));
  }

  template <typename T>
  T& field(const Input& input) {
    return config_.*std::get<T Config::*>(input.row->field);
  }

  // --- One value ---------------------------------------------------------------------------------

  void read(const Input& input) {
    if (std::holds_alternative<std::monostate>(input.row->field)) return;
    switch (input.row->kind) {
      case Kind::kSwitch:
        return read_switch(input);
      case Kind::kCount:
        return read_count(input);
      case Kind::kNumber:
        return read_number(input);
      case Kind::kPort:
        field<std::uint16_t>(input) = read_port(input, false).value_or(0);
        return;
      case Kind::kOptionalPort:
        field<std::optional<std::uint16_t>>(input) = read_port(input, true);
        return;
      case Kind::kTime:
      case Kind::kSignedTime:
        return read_time(input);
      case Kind::kText:
      case Kind::kFile:
      case Kind::kFolder:
        field<std::string>(input) = input.text;
        return;
      case Kind::kSecret:
        return read_secret(input);
      case Kind::kUrl:
        field<std::string>(input) = input.text;
        if (!input.text.empty() && !is_url(input.text, false))
          invalid(input, "a URL that begins with https://");
        return;
      case Kind::kHostname:
        return;  // Depends on others: check_hostname().
      case Kind::kHome:
        return read_home(input);
      case Kind::kListen:
        return read_listen(input);
      case Kind::kOptionalListen:
        return read_optional_listen(input);
      case Kind::kCertMode:
        return read_cert_mode(input);
      case Kind::kTlsRecords:
        return read_tls_records(input);
      case Kind::kNames:
      case Kind::kFiles:
        field<std::vector<std::string>>(input) = input.items;
        return;
      case Kind::kUrls:
        return read_urls(input);
      case Kind::kRanges:
        return read_ranges(input);
      case Kind::kMeshPeers:
        return read_mesh_peers(input);
    }
  }

  void read_switch(const Input& input) {
    const auto value = parse_go_bool(input.text);
    if (!value) invalid(input, "true or false");
    field<bool>(input) = value.value_or(false);
  }

  void read_count(const Input& input) {
    const auto value = parse_go_int(input.text);
    const SettingRow& row = *input.row;
    if (value && *value <= 0 && row.not_positive_is_default) return;  // Config has the default.
    const bool fits = value && *value >= 0 && static_cast<std::uint64_t>(*value) >= row.min &&
                      static_cast<std::uint64_t>(*value) <= row.max;
    if (!fits) return invalid(input, fmt::format("a number from {} to {}", row.min, row.max));
    if (std::holds_alternative<std::uint32_t Config::*>(row.field))
      field<std::uint32_t>(input) = static_cast<std::uint32_t>(*value);
    else
      field<std::uint64_t>(input) = static_cast<std::uint64_t>(*value);
  }

  void read_number(const Input& input) {
    const auto value = parse_go_float(input.text);
    if (!value || std::isnan(*value) || *value < 0)
      return invalid(input, "a number that is not negative, or Inf for no limit,");
    field<double>(input) = *value;
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

  void read_time(const Input& input) {
    const auto value = parse_go_duration(input.text);
    if (!value) return invalid(input, "a duration with its unit, like 15s, 500ms or 1h30m,");
    if (*value < std::chrono::nanoseconds(0)) {
      if (input.row->kind == Kind::kTime) invalid(input, "a duration that is not negative");
      field<Duration>(input) = Duration(0);
      return;
    }
    if (input.row->field == Field(&Config::gather) && *value > kGatherMax)
      return invalid(input, fmt::format("a duration of at most {}", to_go_text(kGatherMax)));
    field<Duration>(input) = *value;
  }

  void read_secret(const Input& input) {
    // derper looks at this variable only with -dev.
    if (input.row->name == "mesh-key" && personality_ == Personality::kDerper && !dev()) return;
    field<std::string>(input) = input.text;
    if (input.text.empty()) return;
    if (input.row->name == "mesh-key" &&
        (input.text.size() != kMeshKeyDigits || !is_hex(input.text)))
      invalid(input, "a mesh key of 64 hex digits");
    if (input.row->name == "acme-eab-key" && !is_base64(input.text))
      invalid(input, "a key in base64, as the certificate authority gave it,");
  }

  void read_home(const Input& input) {
    const std::string& text = input.text;
    if (text.empty()) return;
    if (text == "blank") {
      config_.home = HomePage::kBlank;
      return;
    }
    if (!is_url(text, true))
      return invalid(input,
                     "nothing, the word blank, or a URL that begins with https:// or http://");
    config_.home = HomePage::kRedirect;
    config_.home_redirect = text;
  }

  void read_listen(const Input& input) {
    const auto parsed = parse_listen_address(input.text, input.where);
    if (!parsed) return problem(parsed.error());
    field<ListenAddress>(input) = parsed->address;
    remarks_.notices.push_back(parsed->notice);
  }

  void read_optional_listen(const Input& input) {
    if (input.text.empty()) return;
    const auto parsed = parse_listen_address(input.text, input.where);
    if (!parsed) return problem(fmt::format("{}: {}", input.row->name, parsed.error()));
    field<std::optional<ListenAddress>>(input) = parsed->address;
  }

  void read_cert_mode(const Input& input) {
    if (input.text == "manual")
      config_.cert_mode = CertMode::kManual;
    else if (input.text == "letsencrypt")
      config_.cert_mode = CertMode::kLetsEncrypt;
    else if (input.text == "gcp")
      config_.cert_mode = CertMode::kGcp;
    else
      invalid(input, "manual, letsencrypt or gcp");
  }

  void read_tls_records(const Input& input) {
    const auto* const named =
        std::ranges::find(kTlsRecordsNames, input.text, &TlsRecordsName::name);
    if (named == kTlsRecordsNames.end()) return invalid(input, "auto, ipsec-mb, evp or openssl");
    config_.tls_records = named->records;
  }

  void read_urls(const Input& input) {
    for (const auto& item : input.items)
      if (!is_url(item, true))
        problem(fmt::format("{}: a URL that begins with https:// or http:// is needed",
                            input.described(item)));
    field<std::vector<std::string>>(input) = input.items;
  }

  void read_ranges(const Input& input) {
    for (const auto& item : input.items)
      if (!is_cidr(item))
        problem(
            fmt::format("{}: \"{}\" is not an address range like 192.0.2.0/24 (a single "
                        "address is written 192.0.2.7/32)",
                        input.origin == Origin::kFlag ? input.flag : input.where, item));
    field<std::vector<std::string>>(input) = input.items;
  }

  void read_mesh_peers(const Input& input) {
    for (const auto& item : input.items) {
      const auto slash = item.find('/');
      MeshPeer peer{.host = item.substr(0, slash), .dial_host = ""};
      if (slash != std::string::npos) peer.dial_host = item.substr(slash + 1);
      if (peer.dial_host.find('/') != std::string::npos) {
        problem(fmt::format(
            "{}: a name, or name/address with one slash, is needed, without https:// in front",
            input.described(item)));
        continue;
      }
      if (const auto wrong = mesh_host_problem(peer); !wrong.empty()) {
        problem(fmt::format("{}: {}", input.described(item), wrong));
        continue;
      }
      config_.mesh_with.push_back(std::move(peer));
    }
  }

  /// What is wrong with the parts of a mesh peer; empty when nothing is.
  static std::string mesh_host_problem(const MeshPeer& peer) {
    std::string_view host = peer.host;
    if (!is_ip(host)) {
      const auto colon = host.rfind(':');
      if (colon != std::string_view::npos && !host.ends_with(']')) {
        const auto port = parse_go_int(host.substr(colon + 1));
        if (!port || *port < 1 || *port > kPortMax)
          return fmt::format("\"{}\" is no port", host.substr(colon + 1));
        host = host.substr(0, colon);
      }
      if (auto name = parse_hostname(host, "name of the relay"); !name) return name.error();
    }
    if (peer.dial_host.empty()) return {};
    if (auto name = parse_hostname(peer.dial_host, "address to dial"); !name) return name.error();
    return {};
  }

  // --- What belongs together ---------------------------------------------------------------------

  [[nodiscard]] bool dev() const { return parse_go_bool(at("dev").text).value_or(false); }

  void check_hostname() {
    const Input& input = at("hostname");
    hostname_source_ = input.where;
    if (input.text.empty()) {
      config_.hostname = config_.listen.host;
      hostname_source_ = "the listen address";
      if (config_.hostname.empty() && config_.tls)
        problem(fmt::format(
            "{0} is not set, and {1} {2} means all addresses, so it is not known what clients will "
            "call this relay: set {0} to the DNS name that its certificate is for, or to this "
            "machine's public IP address (then a certificate is made for it that clients pin)",
            input.flag, flag("listen"), to_text(config_.listen)));
      return;
    }
    auto name = parse_hostname(input.text, input.where);
    if (!name) {
      // Without TLS nothing depends on it, and derper does not look at it then.
      if (config_.tls) problem(name.error());
      if (!config_.tls) warning(name.error());
      return;
    }
    if (*name != input.text)
      remarks_.notices.push_back(
          fmt::format("host name \"{}\" ({}): used as {}", input.text, input.where, *name));
    config_.hostname = std::move(*name);
  }

  void check_ports() {
    if (!config_.tls) config_.http_port = std::nullopt;  // The main listener speaks it already.
    if (config_.http_port && *config_.http_port != 0 && *config_.http_port == config_.listen.port)
      problem(
          fmt::format("{0} and {1} are both port {2}: choose another one, or switch plain HTTP "
                      "off with {1}=-1",
                      flag("listen"), flag("http-port"), *config_.http_port));
  }

  void check_key_file() {
    if (config_.dev) {
      config_.key_file.clear();  // The key lives as long as the process.
      return;
    }
    if (!config_.key_file.empty()) return;
    problem(
        fmt::format("{0} is not set: it names the file that keeps this relay's key (it is made "
                    "when it does not exist), for example {0} /var/lib/derper/derper.key",
                    flag("key-file")));
  }

  void check_certificate() {
    const bool manual = config_.cert_mode == CertMode::kManual;
    if (config_.cert_file.empty() && !config_.cert_key_file.empty())
      problem(fmt::format("{} is set and {} is not: name the certificate's file as well",
                          flag("key"), flag("cert")));
    if (config_.cert_file.empty() && config_.cert_dir.empty())
      problem(
          fmt::format("{} is not set, and neither HOME nor XDG_CACHE_HOME says where it could be: "
                      "set it to the folder with the certificate",
                      flag("cert-dir")));
    if (!manual && !config_.cert_file.empty())
      problem(fmt::format("{} names a certificate, and {} gets one by itself: set only one of them",
                          at("cert").described(), at("cert-mode").described()));
    if (!config_.cert_file.empty()) {
      if (at("cert-dir").is_set() && !config_.cert_dir.empty())
        warning(fmt::format("{} is not looked at, since {} names the certificate", flag("cert-dir"),
                            flag("cert")));
      config_.cert_dir.clear();
    }
    check_acme(manual);
  }

  void check_acme(bool manual) {
    const bool is_address = is_ip(config_.hostname);
    const std::string mode = at("cert-mode").described();
    if (config_.acme_ip_certs && config_.cert_mode != CertMode::kLetsEncrypt)
      problem(fmt::format("{} needs {} letsencrypt", flag("acme-ip-certs"), flag("cert-mode")));
    if (config_.cert_mode == CertMode::kLetsEncrypt && is_address && !config_.acme_ip_certs)
      problem(fmt::format(
          "{} and the host name {}, an IP address: write {} manual for a certificate that is made "
          "here and that clients pin, or {} for certificates for IP addresses from Let's Encrypt",
          mode, config_.hostname, flag("cert-mode"), flag("acme-ip-certs")));
    if (config_.cert_mode == CertMode::kGcp) {
      if (is_address)
        problem(fmt::format("{} needs a DNS name as {}, and {} is an IP address", mode,
                            flag("hostname"), config_.hostname));
      for (const auto name : {"acme-eab-kid", "acme-eab-key", "acme-email"})
        if (at(name).is_empty())
          problem(fmt::format("{} needs {}, which Google gives you with the ACME account", mode,
                              flag(name)));
    }
    if (config_.acme_eab_kid.empty() != config_.acme_eab_key.empty() &&
        config_.cert_mode != CertMode::kGcp)
      problem(fmt::format("{} and {} belong together: set both or none", flag("acme-eab-kid"),
                          flag("acme-eab-key")));
    if (!manual) return;
    for (const auto name : {"acme-directory", "acme-ca-file", "acme-email", "acme-eab-kid",
                            "acme-eab-key", "acme-dns-hook"})
      if (at(name).is_set() && !at(name).is_empty())
        warning(fmt::format("{} does nothing with {} manual", flag(name), flag("cert-mode")));
  }

  void check_mesh() {
    if (config_.dev) {  // derper reads neither then.
      config_.mesh_key_file.clear();
      config_.secrets_url.clear();
    }
    if (!config_.mesh_key.empty() && !config_.mesh_key_file.empty())
      problem(fmt::format("{} and {} both give the mesh key: set only one",
                          at("mesh-key").described(), at("mesh-psk-file").described()));
    if (!config_.secrets_url.empty() && !is_url(config_.secrets_url, /*may_be_plain=*/true))
      problem(fmt::format("{}: a URL that begins with https:// is needed",
                          at("secrets-url").described()));
    if (!config_.mesh_with.empty() && config_.mesh_key.empty() && config_.mesh_key_file.empty() &&
        config_.secrets_url.empty())
      problem(fmt::format("{} needs the key that the relays share: set {}", flag("mesh-with"),
                          config_.dev ? flag("mesh-key") : flag("mesh-psk-file")));
  }

  /// Keys are written with or without "nodekey:"; what derper cannot read it leaves out.
  void check_log_drops() {
    const Input& input = at("log-drops");
    const bool must_be_good = personality_ != Personality::kDerper;
    const auto complain = [&](std::string text) {
      must_be_good ? problem(std::move(text)) : warning(std::move(text) + "; it is left out");
    };
    std::vector<std::string> keys;
    for (const auto& item : config_.log_drops) {
      const auto key = crypto::NodePublic::parse(
          item.starts_with(kNodeKeyPrefix) ? item : std::string(kNodeKeyPrefix) + item);
      if (key)
        keys.push_back(key->typed());
      else
        complain(
            fmt::format("{}: a node key is needed, nodekey: and 64 hex digits, as `tailscale "
                        "status --json` shows it in PublicKey",
                        input.described(item)));
    }
    if (keys.size() > kLogDropsMax) {
      problem(fmt::format("{} names {} keys: {} at most", input.described(), keys.size(),
                          kLogDropsMax));
    }
    config_.log_drops = std::move(keys);
  }

  void check_connect() {
    if (config_.ace && !config_.tls)
      warning(fmt::format("{} does nothing without TLS: CONNECT is only taken there", flag("ace")));
  }

  void check_admission() {
    if (!config_.tailscaled_sockets.empty() && !config_.verify_clients)
      warning(fmt::format("{} does nothing without {}", flag("socket"), flag("verify-clients")));
    if (!config_.verify_url_auth_file.empty() && config_.verify_urls.empty())
      warning(fmt::format("{} does nothing without {}", flag("verify-client-url-auth-file"),
                          flag("verify-client-url")));
    for (const auto& name : config_.disallowed_app_names) {
      const bool possible = name.size() <= kAppNameSizeMax && std::ranges::all_of(name, [](char c) {
                              return c >= 0x20 && c <= 0x7e;
                            });
      if (!possible)
        problem(
            fmt::format("{}: names of at most {} printable ASCII characters are needed, since "
                        "clients cannot have others",
                        at("disallow-app-names").described(name), kAppNameSizeMax));
    }
  }

  /// Clients need the relay's own pages where they are.
  void check_map_page() {
    const std::string& path = config_.serve_map;
    if (path.empty()) {
      if (!config_.serve_map_token_file.empty())
        warning(fmt::format("{} does nothing without {}", flag("serve-map-token-file"),
                            flag("serve-map")));
      return;
    }
    const auto is_plain = [](char c) {
      return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
             c == '-' || c == '_' || c == '.' || c == '/';
    };
    const bool is_path = path.starts_with('/') && path.size() > 1 && !path.ends_with('/') &&
                         std::ranges::all_of(path, is_plain) &&
                         path.find("//") == std::string::npos &&
                         path.find("/.") == std::string::npos;
    constexpr std::array<std::string_view, 5> kTaken = {"/derp", "/generate_204", "/robots.txt",
                                                        "/bootstrap-dns", "/debug"};
    const bool is_taken = std::ranges::any_of(kTaken, [&path](std::string_view taken) {
      return path == taken || path.starts_with(std::string(taken) + "/");
    });
    if (!is_path || is_taken)
      problem(
          fmt::format("{}: {}; write a path of its own: /derpmap.json", at("serve-map").described(),
                      is_taken ? "the relay needs that path itself"
                               : "a path begins with / and has letters, digits and - _ . only"));
  }

  void check_watching() {
    if (!config_.debug_allow_ip.empty() && !is_ip(config_.debug_allow_ip))
      warning(fmt::format("{} is not an IP address and lets nobody in",
                          at("debug-allow-ip").described()));
    if (!config_.metrics_token_file.empty() && !config_.metrics_listen)
      warning(fmt::format("{} does nothing without {}", flag("metrics-token-file"),
                          flag("metrics-listen")));
    if (!config_.metrics_listen) return;
    const auto& metrics = *config_.metrics_listen;
    const bool is_loopback = metrics.host.starts_with("127.") || metrics.host == "::1";
    if (!is_loopback && config_.metrics_token_file.empty())
      warning(
          fmt::format("{}: everybody who reaches that port can read the metrics: set {}, or "
                      "listen on 127.0.0.1",
                      at("metrics-listen").described(), flag("metrics-token-file")));
    if (metrics.port == 0) return;
    const bool same_host =
        metrics.host.empty() || config_.listen.host.empty() || metrics.host == config_.listen.host;
    for (const auto& [name, port] : {std::pair{"listen", std::optional(config_.listen.port)},
                                     {"http-port", config_.http_port}})
      if (same_host && port == metrics.port)
        problem(fmt::format("{} and {} are both port {}: choose another one", flag(name),
                            flag("metrics-listen"), metrics.port));
  }

  void check_proxies() {
    if (config_.proxy_protocol && config_.trusted_proxies.empty())
      problem(fmt::format("{} needs {}: whose PROXY header to believe", flag("proxy-protocol"),
                          flag("trusted-proxies")));
  }

  void apply_derpers_keepalive() {
    // For derper a negative time is off, and zero means Go's own default.
    if (personality_ == Personality::kDerper &&
        parse_go_duration(at("tcp-keepalive-time").text) == std::chrono::nanoseconds(0))
      config_.tcp_keepalive_time = kGoKeepaliveTime;
  }

  const Personality personality_;
  const Inputs& inputs_;
  const Environment& environment_;
  Remarks& remarks_;
  Config config_;
  std::string hostname_source_;
};

// --- The list of effective values

std::string home_text(const Config& config) {
  switch (config.home) {
    case HomePage::kDefault:
      break;
    case HomePage::kBlank:
      return "blank";
    case HomePage::kRedirect:
      return config.home_redirect;
  }
  return {};
}

std::string cert_mode_text(CertMode mode) {
  switch (mode) {
    case CertMode::kManual:
      break;
    case CertMode::kLetsEncrypt:
      return "letsencrypt";
    case CertMode::kGcp:
      return "gcp";
  }
  return "manual";
}

std::string tls_records_text(TlsRecords records) {
  return std::string(std::ranges::find(kTlsRecordsNames, records, &TlsRecordsName::records)->name);
}

struct ValueOf {
  const Config& config;

  SettingValue operator()(std::monostate) const { return std::string(); }
  SettingValue operator()(bool Config::* field) const { return config.*field; }
  SettingValue operator()(std::string Config::* field) const { return config.*field; }
  SettingValue operator()(Duration Config::* field) const { return to_go_text(config.*field); }
  SettingValue operator()(std::uint16_t Config::* field) const {
    return std::int64_t{config.*field};
  }
  SettingValue operator()(std::optional<std::uint16_t> Config::* field) const {
    if (config.*field) return std::int64_t{*(config.*field)};
    return std::string("off");
  }
  SettingValue operator()(std::uint32_t Config::* field) const {
    return std::int64_t{config.*field};
  }
  SettingValue operator()(std::uint64_t Config::* field) const {
    return static_cast<std::int64_t>(config.*field);
  }
  SettingValue operator()(double Config::* field) const { return config.*field; }
  SettingValue operator()(std::vector<std::string> Config::* field) const { return config.*field; }
  SettingValue operator()(ListenAddress Config::* field) const { return to_text(config.*field); }
  SettingValue operator()(std::optional<ListenAddress> Config::* field) const {
    return config.*field ? to_text(*(config.*field)) : std::string();
  }
  SettingValue operator()(HomePage Config::*) const { return home_text(config); }
  SettingValue operator()(CertMode Config::* field) const { return cert_mode_text(config.*field); }
  SettingValue operator()(TlsRecords Config::* field) const {
    return tls_records_text(config.*field);
  }
  SettingValue operator()(std::vector<MeshPeer> Config::* field) const {
    std::vector<std::string> peers;
    for (const auto& peer : config.*field)
      peers.push_back(peer.dial_host.empty() ? peer.host : peer.host + "/" + peer.dial_host);
    return peers;
  }
};

bool is_listed(const SettingRow& row, Personality personality) {
  if (std::holds_alternative<std::monostate>(row.field)) return false;
  return personality == Personality::kDerper || row.has_option || row.has_variables;
}

std::vector<Setting> settings_of(Personality personality, const Inputs& inputs,
                                 const Config& config, const std::string& hostname_source) {
  std::vector<Setting> settings;
  for (const auto& input : inputs.all()) {
    const SettingRow& row = *input.row;
    if (!is_listed(row, personality)) continue;
    Setting setting{.name = std::string(row.name),
                    .value = std::visit(ValueOf{config}, row.field),
                    .origin = input.origin,
                    .source = row.name == "hostname" ? hostname_source : input.where,
                    .is_secret = row.kind == Kind::kSecret,
                    .reloadable = row.reloadable};
    setting.is_set = !to_text(setting.value).empty();
    if (setting.is_secret) setting.value = std::string();
    settings.push_back(std::move(setting));
  }
  return settings;
}

}  // namespace

Start build_start(Personality personality, const Inputs& inputs, const Environment& environment,
                  const Program& program, Remarks& remarks) {
  Builder builder(personality, inputs, environment, remarks);
  Start start{.config = builder.build()};
  start.config.version = program.version;
  start.config.binary_name = personality == Personality::kDerper ? "derper" : "detour";
  start.settings = settings_of(personality, inputs, start.config, builder.hostname_source());
  start.notices = remarks.notices;
  start.warnings = remarks.warnings;
  return start;
}

bool listens_on_https(const std::string& listen_text) {
  const auto parsed = parse_listen_address(listen_text, "");
  return parsed && parsed->port_is_https;
}

}  // namespace detour::config
