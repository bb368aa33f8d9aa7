#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/address.h"
#include "config/build_config.h"
#include "config/command_line.h"
#include "config/go_flags.h"
#include "config/go_values.h"

namespace detour::config {
namespace {

using enum GoFlagType;

constexpr std::string_view kRootKeyFile = "/var/lib/derper/derper.key";
constexpr std::string_view kDefaultHostname = "derp.tailscale.com";

/// One of derper's flags.
struct DerperFlag {
  std::string_view name;
  GoFlagType type;
  std::string_view default_text;
  std::string_view value_name;  ///< In the usage text.
  std::string_view help;
  /// For a flag that is not built yet: what to do until then. Empty: it works.
  std::string_view instead;
};

constexpr std::string_view kUseManual =
    "get the certificate with acme.sh or certbot and use -certmode manual";
constexpr std::string_view kNoMesh = "leave it out and run one relay per region";
constexpr std::string_view kNoAdmission =
    "leave it out, and let a firewall decide who reaches this relay";

constexpr std::array kFlags = std::to_array<DerperFlag>({
    {"a", kString, ":443", "address",
     "listen address: :port, ip:port or [ip6]:port; TLS when the port is 443 or with -certmode "
     "manual, else plain HTTP",
     ""},
    {"hostname", kString, kDefaultHostname, "name",
     "TLS host name: the DNS name of the certificate, or an IP address (-certmode manual makes a "
     "certificate for it that clients pin)",
     ""},
    {"c", kString, "", "file",
     "file with the relay's key, made when missing; root's default is /var/lib/derper/derper.key",
     ""},
    {"certmode", kString, "letsencrypt", "mode",
     "manual: certificate from -certdir; letsencrypt and gcp are not built yet", ""},
    {"certdir", kString, "", "folder",
     "folder with <hostname>.crt (the full chain) and <hostname>.key; default "
     "$XDG_CACHE_HOME/tailscale/derper-certs or $HOME/.cache/tailscale/derper-certs",
     ""},
    {"allow-incomplete-chain", kBool, "false", "",
     "serve a certificate without its intermediate: for a private authority that every client "
     "knows (also DETOUR_ALLOW_INCOMPLETE_CHAIN=1; derper does not have this flag)",
     ""},
    {"http-port", kInt, "80", "port",
     "plain HTTP beside TLS, on the same address: captive portal checks and redirects; -1 is off",
     ""},
    {"stun", kBool, "true", "", "answer STUN requests on UDP", ""},
    {"stun-port", kInt, "3478", "port", "UDP port for STUN, on the same address", ""},
    {"derp", kBool, "true", "", "relay; false leaves all but /derp", ""},
    {"home", kString, "", "page",
     "what / answers: nothing (a default page), blank, or a URL to go to", ""},
    {"tcp-write-timeout", kDuration, "2s", "time",
     "disconnect a client that takes nothing for that long; 0 is never", ""},
    {"tcp-user-timeout", kDuration, "15s", "time", "TCP_USER_TIMEOUT of accepted connections", ""},
    {"tcp-keepalive-time", kDuration, "10m", "time",
     "idle time before TCP keepalive probes; negative is off", ""},
    {"version", kBool, "false", "", "print the version and exit", ""},

    {"accept-connection-burst", kInt, "9223372036854775807", "", "",
     "leave it out, and limit new connections in the firewall"},
    {"accept-connection-limit", kFloat, "+Inf", "", "",
     "leave it out, and limit new connections in the firewall"},
    {"ace", kBool, "false", "", "", "leave it out"},
    {"acme-eab-key", kString, "", "", "", kUseManual},
    {"acme-eab-kid", kString, "", "", "", kUseManual},
    {"acme-email", kString, "", "", "", kUseManual},
    {"acme-ip-certs", kBool, "false", "", "",
     "use -certmode manual with an IP address as -hostname: a certificate is made that clients "
     "pin"},
    {"bootstrap-dns-names", kString, "", "", "", "leave it out: clients ask other relays"},
    {"dev", kBool, "false", "", "", "use -a 127.0.0.1:3340 and -c with any file"},
    {"disallow-app-names", kString, "", "", "", kNoAdmission},
    {"mesh-psk-file", kString, "", "", "", kNoMesh},
    {"mesh-with", kString, "", "", "", kNoMesh},
    {"rate-config", kString, "", "", "",
     "leave it out, and shape the traffic of the whole machine with tc"},
    {"secrets-cache-dir", kString, "", "", "", kNoMesh},
    {"secrets-path-prefix", kString, "prod/derp", "", "", kNoMesh},
    {"secrets-url", kString, "", "", "", kNoMesh},
    {"socket", kString, "", "", "", kNoAdmission},
    {"unpublished-bootstrap-dns-names", kString, "", "", "",
     "leave it out: clients ask other relays"},
    {"verify-client-url", kString, "", "", "", kNoAdmission},
    {"verify-client-url-fail-open", kBool, "true", "", "", kNoAdmission},
    {"verify-clients", kBool, "false", "", "", kNoAdmission},
});

/// Whether two texts of one type say the same: `1` and `true`, `600s` and `10m`.
bool is_same_value(GoFlagType type, std::string_view a, std::string_view b) {
  switch (type) {
    case kBool:
      return parse_go_bool(a) == parse_go_bool(b);
    case kInt:
      return parse_go_int(a) == parse_go_int(b);
    case kFloat:
      return parse_go_float(a) == parse_go_float(b);
    case kDuration:
      return parse_go_duration(a) == parse_go_duration(b);
    case kString:
      break;
  }
  return a == b;
}

/// One parse of derper's command line against one environment.
class DerperCommandLine {
 public:
  DerperCommandLine(GoFlagValues values, const Environment& environment)
      : values_(std::move(values)), environment_(environment) {}

  [[nodiscard]] bool asks_for_version() const {
    const auto found = values_.set.find("version");
    return found != values_.set.end() && parse_go_bool(found->second).value_or(false);
  }

  Start build(const Program& program, Remarks& remarks) {
    remark_on_ignored_arguments(remarks);
    refuse_what_is_not_built(remarks);
    refuse_certificate_modes(remarks);
    const Inputs inputs = make_inputs();
    const std::size_t problems_before = remarks.problems.size();
    Start start = build_start(Personality::kDerper, inputs, environment_, program, remarks);
    if (remarks.problems.size() == problems_before) warn_of_plain_http(start);
    if (start.config.tls && !is_set("hostname"))
      start.warnings.push_back(fmt::format(
          "-hostname is not set: the name is {}, which is not yours", kDefaultHostname));
    return start;
  }

 private:
  [[nodiscard]] bool is_set(std::string_view name) const { return values_.set.contains(name); }

  [[nodiscard]] std::string text(std::string_view name) const {
    if (const auto found = values_.set.find(name); found != values_.set.end()) return found->second;
    return default_text(name);
  }

  [[nodiscard]] std::string default_text(std::string_view name) const {
    if (name == "certdir") return default_cert_dir();
    if (name == "secrets-cache-dir") {
      const auto home = environment_.get("HOME");
      return home.empty() ? std::string() : fmt::format("{}/.cache/derper-secrets", home);
    }
    if (name == "mesh-psk-file") return default_mesh_key_file();
    for (const auto& flag : kFlags)
      if (flag.name == name) return std::string(flag.default_text);
    return {};
  }

  [[nodiscard]] std::string default_cert_dir() const {
    const auto cache = environment_.get("XDG_CACHE_HOME");
    const auto home = environment_.get("HOME");
    if (!cache.empty()) return fmt::format("{}/tailscale/derper-certs", cache);
    if (!home.empty()) return fmt::format("{}/.cache/tailscale/derper-certs", home);
    return {};
  }

  [[nodiscard]] std::string default_mesh_key_file() const {
    const auto home = environment_.get("HOME");
    for (const auto& file :
         {std::string("/home/derp/keys/derp-mesh.key"), fmt::format("{}/keys/derp-mesh.key", home)})
      if (environment_.file_exists(file)) return file;
    return {};
  }

  [[nodiscard]] Input input(std::string_view name) const {
    const bool set = is_set(name);
    return {.name = name == "a"   ? std::string("listen")
                    : name == "c" ? std::string("key-file")
                                  : std::string(name),
            .flag = fmt::format("-{}", name),
            .text = text(name),
            .source = set ? fmt::format("flag -{}", name) : std::string("default"),
            .is_set = set};
  }

  [[nodiscard]] bool serves_tls() const {
    return text("certmode") == "manual" || listens_on_https(text("a"));
  }

  [[nodiscard]] Inputs make_inputs() const {
    Inputs inputs;
    inputs.listen = input("a");
    const bool tls = serves_tls();
    inputs.tls = {.name = "tls",
                  .flag = "-certmode manual",
                  .text = tls ? "true" : "false",
                  .source = text("certmode") == "manual" ? "flag -certmode" : "the port in -a",
                  .is_set = false};
    inputs.hostname = input("hostname");
    inputs.key_file = input("c");
    if (inputs.key_file.text.empty() && environment_.is_root) {
      inputs.key_file.text = kRootKeyFile;
      inputs.key_file.source = "default";
    }
    inputs.cert_dir = input("certdir");
    // derper has no such flags; -certdir alone names its files.
    inputs.cert_file = {.name = "cert", .flag = "-certdir", .text = "", .source = "default"};
    inputs.cert_key_file = {.name = "key", .flag = "-certdir", .text = "", .source = "default"};
    inputs.allow_incomplete_chain = input("allow-incomplete-chain");
    inputs.http_port = input("http-port");
    inputs.stun = input("stun");
    inputs.stun_port = input("stun-port");
    inputs.derp = input("derp");
    inputs.home = input("home");
    inputs.workers = {.name = "workers",
                      .flag = "workers",
                      .text = fmt::format("{}", environment_.cpus),
                      .source = "default"};
    inputs.tcp_write_timeout = input("tcp-write-timeout");
    inputs.tcp_user_timeout = input("tcp-user-timeout");
    inputs.tcp_keepalive_time = input("tcp-keepalive-time");
    inputs.gather = {.name = "gather",
                     .flag = "gather",
                     .text = to_go_text(Config{}.gather),
                     .source = "default"};
    return inputs;
  }

  void remark_on_ignored_arguments(Remarks& remarks) const {
    if (values_.rest.empty()) return;
    remarks.warnings.push_back(fmt::format(
        "the flags end at the argument \"{}\", so it and what follows is ignored (a flag that "
        "switches something off needs an equals sign: -stun=false)",
        values_.rest.front()));
  }

  void refuse_what_is_not_built(Remarks& remarks) const {
    for (const auto& flag : kFlags) {
      if (flag.instead.empty() || !is_set(flag.name)) continue;
      // No key and no cache mean "no mesh", whatever the default would have found.
      const std::string value = text(flag.name);
      if (flag.type == kString && value.empty()) continue;
      if (is_same_value(flag.type, value, default_text(flag.name))) continue;
      remarks.problems.push_back(fmt::format("-{} is not built yet: {}", flag.name, flag.instead));
    }
    if (const auto file = default_mesh_key_file(); !file.empty() && !is_set("mesh-psk-file"))
      remarks.warnings.push_back(fmt::format(
          "the mesh key {} is not used: meshing is not built yet, this relay stands alone", file));
  }

  void refuse_certificate_modes(Remarks& remarks) const {
    const std::string mode = text("certmode");
    if (mode == "manual") return;
    if (mode != "letsencrypt" && mode != "gcp") {
      remarks.problems.push_back(
          fmt::format("-certmode \"{}\": manual, letsencrypt or gcp is needed", mode));
      return;
    }
    // Without TLS derper takes no notice of its default.
    if (mode == "letsencrypt" && !serves_tls()) return;
    const std::string name = text("hostname");
    const std::string folder = text("certdir").empty() ? "FOLDER" : text("certdir");
    const std::string manual = fmt::format("-certmode manual -certdir {}", folder);
    remarks.problems.push_back(
        is_ip(name)
            ? fmt::format("-certmode {} is not built yet: write {} (a certificate for {} is made "
                          "then, which clients pin)",
                          mode, manual, name)
            : fmt::format(
                  "-certmode {}{} is not built yet: get the certificate for {} with acme.sh or "
                  "certbot, put it into {} as {}.crt (full chain) and {}.key, and write {}; or use "
                  "this machine's IP address as -hostname with -certmode manual: a certificate "
                  "that "
                  "clients pin is made then",
                  mode, is_set("certmode") ? "" : " (the default with TLS)", name, folder, name,
                  name, manual));
  }

  void warn_of_plain_http(Start& start) const {
    if (start.config.tls || !start.config.derp) return;
    start.warnings.push_back(fmt::format(
        "port {} is served as plain HTTP, without TLS, which Tailscale clients cannot use (\"first "
        "record does not look like a TLS handshake\"): add -certmode manual",
        start.config.listen.port));
  }

  const GoFlagValues values_;
  const Environment& environment_;
};

// --- Usage --------------------------------------------------------------------------------------

std::string usage(const Program& program) {
  std::string text = fmt::format(
      "Usage of {}:\n\n"
      "A DERP and STUN server for Tailscale clients, with derper's flags (Detour {}).\n"
      "Flags have one or two dashes and take a value as -name value or -name=value; booleans only "
      "with =, like -stun=false.\n\n",
      program.name, program.version);
  for (const auto& flag : kFlags) {
    if (!flag.instead.empty()) continue;
    text += fmt::format("  -{}{}{}\n        {}", flag.name, flag.value_name.empty() ? "" : " ",
                        flag.value_name, flag.help);
    const bool has_default = !flag.default_text.empty() && flag.default_text != "false";
    text += has_default ? fmt::format(" (default {})\n", flag.default_text) : "\n";
  }
  std::vector<std::string> missing;
  for (const auto& flag : kFlags)
    if (!flag.instead.empty()) missing.push_back(fmt::format("-{}", flag.name));
  return text + fmt::format("\nKnown, but not built yet: {}\n", fmt::join(missing, " "));
}

}  // namespace

CommandLine parse_derper_command_line(std::span<const std::string> args,
                                      const Environment& environment, const Program& program) {
  std::vector<GoFlag> flags;
  for (const auto& flag : kFlags) flags.push_back({.name = flag.name, .type = flag.type});
  auto values = parse_go_flags(args, flags);
  if (!values) {
    if (values.error().help)
      return std::unexpected(Exit{.status = 0, .out = "", .err = usage(program)});
    const std::string hint =
        values.error().hint.empty() ? std::string() : values.error().hint + "\n";
    return std::unexpected(
        Exit{.status = kExitUsage,
             .out = "",
             .err = fmt::format("{}\n{}{}", values.error().message, hint, usage(program))});
  }

  DerperCommandLine command_line(std::move(*values), environment);
  if (command_line.asks_for_version())
    return std::unexpected(Exit{.status = 0, .out = program.version + "\n", .err = ""});
  Remarks remarks;
  Start start = command_line.build(program, remarks);
  if (remarks.problems.empty()) return start;
  std::string said;
  for (const auto& problem : remarks.problems) said += fmt::format("derper: {}\n", problem);
  return std::unexpected(Exit{.status = kExitFatal, .out = "", .err = said});
}

}  // namespace detour::config
