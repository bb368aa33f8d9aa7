#include "config/settings.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "config/command_line.h"
#include "config/go_values.h"

namespace detour::config {
namespace {

// --- Defaults that depend on the machine ---------------------------------------------------------

Default state_file(const Environment& environment, std::string_view name) {
  // systemd gives a list when several are configured; the first one is ours.
  if (const auto given = environment.get("STATE_DIRECTORY"); !given.empty())
    return {.text = fmt::format("{}/{}", given.substr(0, given.find(':')), name),
            .source = "environment variable STATE_DIRECTORY"};
  if (environment.is_root) return {.text = fmt::format("/var/lib/detour/{}", name), .source = ""};
  if (const auto state = environment.get("XDG_STATE_HOME"); !state.empty())
    return {.text = fmt::format("{}/detour/{}", state, name), .source = ""};
  if (const auto home = environment.get("HOME"); !home.empty())
    return {.text = fmt::format("{}/.local/state/detour/{}", home, name), .source = ""};
  return {};
}

Default default_key_file(Personality personality, const Environment& environment) {
  if (personality == Personality::kDetour) return state_file(environment, "relay.key");
  return {.text = environment.is_root ? "/var/lib/derper/derper.key" : "", .source = ""};
}

Default default_cert_dir(Personality personality, const Environment& environment) {
  if (personality == Personality::kDetour) return state_file(environment, "certs");
  if (const auto cache = environment.get("XDG_CACHE_HOME"); !cache.empty())
    return {.text = fmt::format("{}/tailscale/derper-certs", cache), .source = ""};
  if (const auto home = environment.get("HOME"); !home.empty())
    return {.text = fmt::format("{}/.cache/tailscale/derper-certs", home), .source = ""};
  return {};
}

Default default_mesh_key_file(Personality personality, const Environment& environment) {
  if (personality == Personality::kDetour) return {};
  for (const auto& file : {std::string("/home/derp/keys/derp-mesh.key"),
                           fmt::format("{}/keys/derp-mesh.key", environment.get("HOME"))})
    if (environment.file_exists(file)) return {.text = file, .source = "default, it exists"};
  return {};
}

Default default_secrets_cache_dir(Personality, const Environment& environment) {
  const auto home = environment.get("HOME");
  if (home.empty()) return {};
  return {.text = fmt::format("{}/.cache/derper-secrets", home), .source = ""};
}

Default default_workers(Personality, const Environment& environment) {
  return {.text = fmt::format("{}", environment.cpus), .source = ""};
}

Default default_gather(Personality, const Environment&) {
  return {.text = to_go_text(Config{}.gather), .source = ""};
}

// --- The table -----------------------------------------------------------------------------------

constexpr std::uint64_t kCount32Max = std::numeric_limits<std::uint32_t>::max();

constexpr std::array kTable = std::to_array<SettingRow>({
    // Listening.
    {.name = "listen",
     .kind = Kind::kListen,
     .field = &Config::listen,
     .group = Group::kListening,
     .help = ":port, ip:port or [ip6]:port",
     .fallback = ":443",
     .derper_flag = "a",
     .derper_help =
         "listen address: :port, ip:port or [ip6]:port; TLS when the port is 443 or with "
         "-certmode manual, else plain HTTP",
     .aliases = {"a"},
     .variables = {"DERP_ADDR", "DERP_PORT_HTTPS"}},
    {.name = "tls",
     .kind = Kind::kSwitch,
     .field = &Config::tls,
     .group = Group::kListening,
     .help = "TLS; --no-tls only behind something that speaks TLS to clients",
     .fallback = "true"},
    {.name = "http-port",
     .kind = Kind::kOptionalPort,
     .field = &Config::http_port,
     .group = Group::kListening,
     .help = "plain HTTP beside TLS, on the same address, for captive portal checks and redirects; "
             "-1 or off: none",
     .fallback = "80",
     .derper_flag = "http-port",
     .derper_help = "plain HTTP beside TLS, on the same address: captive portal checks and "
                    "redirects; -1 is off",
     .variables = {"DERP_PORT_HTTP"}},
    {.name = "stun",
     .kind = Kind::kSwitch,
     .field = &Config::stun,
     .group = Group::kListening,
     .help = "answer STUN requests on UDP",
     .fallback = "true",
     .derper_flag = "stun",
     .variables = {"DERP_ENABLE_STUN"}},
    {.name = "stun-port",
     .kind = Kind::kPort,
     .field = &Config::stun_port,
     .group = Group::kListening,
     .help = "UDP port for STUN, on the same address",
     .fallback = "3478",
     .derper_flag = "stun-port",
     .variables = {"DERP_PORT_STUN"}},

    // Name, key and certificate.
    {.name = "hostname",
     .kind = Kind::kHostname,
     .field = &Config::hostname,
     .group = Group::kIdentity,
     .help = "what clients call this relay: the DNS name of its certificate or an IP address",
     .help_default = "the address in --listen",
     .derper_fallback = "derp.tailscale.com",
     .derper_flag = "hostname",
     .derper_help = "TLS host name: the DNS name of the certificate, or an IP address (-certmode "
                    "manual makes a certificate for it that clients pin)",
     .variables = {"DERP_DOMAIN", "DERP_HOST"}},
    {.name = "key-file",
     .kind = Kind::kFile,
     .field = &Config::key_file,
     .group = Group::kIdentity,
     .help = "the relay's own key, made when missing, in derper's format",
     .default_rule = default_key_file,
     .derper_flag = "c",
     .derper_help = "file with the relay's key, made when missing; root's default is "
                    "/var/lib/derper/derper.key",
     .aliases = {"c"}},
    {.name = "cert-mode",
     .kind = Kind::kCertMode,
     .field = &Config::cert_mode,
     .group = Group::kIdentity,
     .help =
         "where the certificate comes from: manual (files; made for an IP address), letsencrypt "
         "(ACME), gcp (Google's ACME)",
     .fallback = "manual",
     .derper_fallback = "letsencrypt",
     .derper_flag = "certmode",
     .aliases = {"certmode"},
     .variables = {"DERP_CERTMODE"}},
    {.name = "cert-dir",
     .kind = Kind::kFolder,
     .field = &Config::cert_dir,
     .group = Group::kIdentity,
     .help =
         "folder with <hostname>.crt and <hostname>.key, used without --cert; for an IP address "
         "the pair is made there, and ACME keeps its files there",
     .default_rule = default_cert_dir,
     .derper_flag = "certdir",
     .derper_help =
         "folder with <hostname>.crt (the full chain) and <hostname>.key; ACME keeps its "
         "files there; by default $XDG_CACHE_HOME/tailscale/derper-certs or "
         "$HOME/.cache/tailscale/derper-certs",
     .aliases = {"certdir"},
     .variables = {"DERP_CERTS", "DERP_CERTDIR"}},
    {.name = "cert",
     .kind = Kind::kFile,
     .field = &Config::cert_file,
     .group = Group::kIdentity,
     .help = "TLS certificate: PEM with the full chain, in any order",
     .reloadable = true},
    {.name = "key",
     .kind = Kind::kFile,
     .field = &Config::cert_key_file,
     .group = Group::kIdentity,
     .help = "private key of --cert",
     .help_default = "it is in the same file",
     .reloadable = true},
    {.name = "allow-incomplete-chain",
     .kind = Kind::kSwitch,
     .field = &Config::allow_incomplete_chain,
     .group = Group::kIdentity,
     .help = "serve a certificate without its intermediate: for a private authority that every "
             "client knows",
     .fallback = "false",
     .derper_flag = "allow-incomplete-chain",
     .derper_help = "serve a certificate without its intermediate: for a private authority that "
                    "every client knows (derper does not have this flag)",
     .derper_variable = "DETOUR_ALLOW_INCOMPLETE_CHAIN"},

    // ACME.
    {.name = "acme-directory",
     .kind = Kind::kUrl,
     .field = &Config::acme_directory,
     .group = Group::kAcme,
     .help = "directory of another ACME server",
     .help_default = "that of the --cert-mode"},
    {.name = "acme-ca-file",
     .kind = Kind::kFile,
     .field = &Config::acme_ca_file,
     .group = Group::kAcme,
     .help = "PEM of the authority that --acme-directory's own certificate is from",
     .help_default = "the system's"},
    {.name = "acme-email",
     .kind = Kind::kText,
     .field = &Config::acme_email,
     .group = Group::kAcme,
     .help = "contact address of the ACME account; gcp needs one",
     .derper_flag = "acme-email"},
    {.name = "acme-eab-kid",
     .kind = Kind::kText,
     .field = &Config::acme_eab_kid,
     .group = Group::kAcme,
     .help = "key id of the external account binding; gcp needs one",
     .derper_flag = "acme-eab-kid"},
    {.name = "acme-eab-key",
     .kind = Kind::kSecret,
     .field = &Config::acme_eab_key,
     .group = Group::kAcme,
     .help = "HMAC key of the external account binding, in base64; gcp needs one",
     .derper_flag = "acme-eab-key"},
    {.name = "acme-ip-certs",
     .kind = Kind::kSwitch,
     .field = &Config::acme_ip_certs,
     .group = Group::kAcme,
     .help = "get certificates for this machine's IP addresses from Let's Encrypt",
     .fallback = "false",
     .derper_flag = "acme-ip-certs"},
    {.name = "acme-dns-hook",
     .kind = Kind::kFile,
     .field = &Config::acme_dns_hook,
     .group = Group::kAcme,
     .help = "program that sets and removes TXT records, for DNS-01"},

    // Who may log in.
    {.name = "verify-clients",
     .kind = Kind::kSwitch,
     .field = &Config::verify_clients,
     .group = Group::kAdmission,
     .help = "let in only nodes that the tailscaled of this machine knows",
     .fallback = "false",
     .derper_flag = "verify-clients",
     .reloadable = true},
    {.name = "socket",
     .kind = Kind::kFiles,
     .field = &Config::tailscaled_sockets,
     .group = Group::kAdmission,
     .help = "socket of a tailscaled for --verify-clients; several may be given",
     .help_default = "the usual places",
     .derper_flag = "socket",
     .derper_help = "socket of tailscaled for -verify-clients",
     .reloadable = true},
    {.name = "verify-client-url",
     .kind = Kind::kUrls,
     .field = &Config::verify_urls,
     .group = Group::kAdmission,
     .help = "admission controller that is asked for every client; several may be given",
     .derper_flag = "verify-client-url",
     .derper_help = "admission controller that is asked for every client",
     .reloadable = true},
    {.name = "verify-client-url-auth-file",
     .kind = Kind::kFile,
     .field = &Config::verify_url_auth_file,
     .group = Group::kAdmission,
     .help = "file whose content is sent to it as Authorization header",
     .reloadable = true},
    {.name = "verify-client-url-fail-open",
     .kind = Kind::kSwitch,
     .field = &Config::verify_fail_open,
     .group = Group::kAdmission,
     .help = "let clients in while no admission controller answers",
     .fallback = "false",
     .derper_fallback = "true",
     .derper_flag = "verify-client-url-fail-open",
     .reloadable = true},
    {.name = "allow-file",
     .kind = Kind::kFile,
     .field = &Config::allow_file,
     .group = Group::kAdmission,
     .help = "file with the node keys that are let in, one a line",
     .reloadable = true},
    {.name = "disallow-app-names",
     .kind = Kind::kNames,
     .field = &Config::disallowed_app_names,
     .group = Group::kAdmission,
     .help = "refuse clients that call themselves one of these, with commas between them",
     .derper_flag = "disallow-app-names",
     .reloadable = true},

    // Mesh.
    {.name = "mesh-psk-file",
     .kind = Kind::kFile,
     .field = &Config::mesh_key_file,
     .group = Group::kMesh,
     .help = "file with the key that the relays of a mesh share: 64 hex digits",
     .default_rule = default_mesh_key_file,
     .derper_flag = "mesh-psk-file",
     .derper_help = "file with the key that the relays of a mesh share: 64 hex digits; by default "
                    "/home/derp/keys/derp-mesh.key or $HOME/keys/derp-mesh.key if there is one",
     .reloadable = true},
    {.name = "mesh-key",
     .kind = Kind::kSecret,
     .field = &Config::mesh_key,
     .group = Group::kMesh,
     .help = "the key itself: 64 hex digits",
     .derper_variable = "TAILSCALE_DERPER_MESH_KEY",
     .has_option = false},
    {.name = "mesh-with",
     .kind = Kind::kMeshPeers,
     .field = &Config::mesh_with,
     .group = Group::kMesh,
     .help = "the other relays of this region, with commas between them: name, or name/address to "
             "dial another address; its own name may be among them",
     .derper_flag = "mesh-with",
     .reloadable = true},

    // Limits.
    {.name = "accept-connection-limit",
     .kind = Kind::kNumber,
     .field = &Config::accept_connections_per_second,
     .group = Group::kLimits,
     .help = "new TLS connections accepted per second",
     .help_default = "no limit",
     .fallback = "+Inf",
     .derper_flag = "accept-connection-limit",
     .reloadable = true},
    {.name = "accept-connection-burst",
     .kind = Kind::kCount,
     .field = &Config::accept_connections_burst,
     .group = Group::kLimits,
     .help = "new connections that may come at once before --accept-connection-limit bites",
     .help_default = "no limit",
     .fallback = "9223372036854775807",
     .derper_flag = "accept-connection-burst",
     .derper_help = "new connections that may come at once before -accept-connection-limit bites",
     .reloadable = true},
    {.name = "connections-max",
     .kind = Kind::kCount,
     .field = &Config::connections_max,
     .group = Group::kLimits,
     .help = "connections at a time; 0 is as many as there are file descriptors",
     .fallback = "0",
     .max = kCount32Max,
     .reloadable = true},
    {.name = "connections-per-address-max",
     .kind = Kind::kCount,
     .field = &Config::connections_per_address_max,
     .group = Group::kLimits,
     .help = "connections at a time from one address; 0 is no limit",
     .fallback = "0",
     .max = kCount32Max,
     .reloadable = true},
    {.name = "rate-config",
     .kind = Kind::kFile,
     .field = &Config::rate_config_file,
     .group = Group::kLimits,
     .help = "JSON file with the limit of each client's traffic, read again on SIGHUP",
     .derper_flag = "rate-config",
     .reloadable = true},

    // Relaying.
    {.name = "derp",
     .kind = Kind::kSwitch,
     .field = &Config::derp,
     .group = Group::kRelaying,
     .help = "relay; without it all but /derp goes on",
     .fallback = "true",
     .derper_flag = "derp"},
    {.name = "workers",
     .kind = Kind::kCount,
     .field = &Config::workers,
     .group = Group::kRelaying,
     .help = "threads that relay",
     .help_default = "one per CPU",
     .default_rule = default_workers,
     .min = 1,
     .max = kWorkersMax},
    {.name = "tcp-write-timeout",
     .kind = Kind::kTime,
     .field = &Config::tcp_write_timeout,
     .group = Group::kRelaying,
     .help = "disconnect a client that takes nothing for that long; 0 is never",
     .fallback = "2s",
     .derper_flag = "tcp-write-timeout"},
    {.name = "tcp-user-timeout",
     .kind = Kind::kTime,
     .field = &Config::tcp_user_timeout,
     .group = Group::kRelaying,
     .help = "disconnect when sent data stays unacknowledged for that long; 0 is the system's "
             "default",
     .fallback = "15s",
     .derper_flag = "tcp-user-timeout"},
    {.name = "tcp-keepalive-time",
     .kind = Kind::kSignedTime,
     .field = &Config::tcp_keepalive_time,
     .group = Group::kRelaying,
     .help = "idle time before TCP keepalive probes; 0 is off",
     .fallback = "10m",
     .derper_flag = "tcp-keepalive-time",
     .derper_help = "idle time before TCP keepalive probes; negative is off"},
    {.name = "gather",
     .kind = Kind::kTime,
     .field = &Config::gather,
     .group = Group::kRelaying,
     .help = "how long at most a busy worker lets packets gather, which saves CPU; 0 is off, 10ms "
             "the most",
     .default_rule = default_gather},
    {.name = "tls-records",
     .kind = Kind::kTlsRecords,
     .field = &Config::tls_records,
     .group = Group::kRelaying,
     .help = "who protects TLS 1.3 records: ipsec-mb (Intel's library) or evp (OpenSSL's ciphers), "
             "openssl for OpenSSL altogether, auto for the fastest",
     .fallback = "auto"},
    {.name = "queue-packets",
     .kind = Kind::kCount,
     .field = &Config::queue_packets_max,
     .group = Group::kRelaying,
     .help = "packets that wait for one client, for data and for disco each",
     .fallback = "32",
     .derper_variable = "TS_DEBUG_DERP_PER_CLIENT_SEND_QUEUE_DEPTH",
     .min = 1,
     .max = kQueuePacketsMaxLimit,
     .not_positive_is_default = true},

    // Pages.
    {.name = "home",
     .kind = Kind::kHome,
     .field = &Config::home,
     .group = Group::kPages,
     .help = "what / answers: nothing (a default page), blank, or a URL to go to",
     .derper_flag = "home"},
    {.name = "serve-map",
     .kind = Kind::kText,
     .field = &Config::serve_map,
     .group = Group::kPages,
     .help = "serve this relay's DERP map as JSON at this path, for Headscale's derp.urls: "
             "/derpmap.json",
     .help_default = "none"},
    {.name = "serve-map-token-file",
     .kind = Kind::kFile,
     .field = &Config::serve_map_token_file,
     .group = Group::kPages,
     .help = "file with the token that the map asks for, as ?token= or as a bearer token"},
    {.name = "bootstrap-dns-names",
     .kind = Kind::kNames,
     .field = &Config::bootstrap_dns_names,
     .group = Group::kPages,
     .help = "names whose addresses /bootstrap-dns gives, with commas between them",
     .derper_flag = "bootstrap-dns-names"},
    {.name = "unpublished-bootstrap-dns-names",
     .kind = Kind::kNames,
     .field = &Config::unpublished_bootstrap_dns_names,
     .group = Group::kPages,
     .help = "the same for names that are given only to those who ask for them; name/record: the "
             "record's TXT says for how many percent of the clients",
     .derper_flag = "unpublished-bootstrap-dns-names"},
    {.name = "ace",
     .kind = Kind::kSwitch,
     .field = &Config::ace,
     .group = Group::kPages,
     .help = "let clients reach the control plane through CONNECT: ports 443 and 80 of hosts of "
             "tailscale.com",
     .fallback = "false",
     .derper_flag = "ace"},

    // A proxy in front.
    {.name = "trusted-proxies",
     .kind = Kind::kRanges,
     .field = &Config::trusted_proxies,
     .group = Group::kProxies,
     .help = "address ranges of proxies whose X-Forwarded-For and PROXY header are believed, with "
             "commas between them"},
    {.name = "proxy-protocol",
     .kind = Kind::kSwitch,
     .field = &Config::proxy_protocol,
     .group = Group::kProxies,
     .help = "connections from trusted proxies begin with a PROXY header (version 1 or 2)",
     .fallback = "false"},

    // Watching it.
    {.name = "metrics-listen",
     .kind = Kind::kOptionalListen,
     .field = &Config::metrics_listen,
     .group = Group::kWatching,
     .help =
         "a listener of its own for the status page (/), /metrics, /healthz and /readyz, without "
         "TLS; without a token the page is for this machine alone",
     .help_default = "none"},
    {.name = "metrics-token-file",
     .kind = Kind::kFile,
     .field = &Config::metrics_token_file,
     .group = Group::kWatching,
     .help = "file with the bearer token that /metrics and the status page of --metrics-listen ask "
             "for",
     .reloadable = true},
    {.name = "control-socket",
     .kind = Kind::kText,
     .field = &Config::control_socket,
     .group = Group::kWatching,
     .help = "Unix socket on which `detour status`, `top`, `kick` and `drain` reach the relay; off "
             "is none",
     .help_default = "/run/detour/detour.sock where /run/detour can be written, else detour.sock "
                     "beside the key file",
     .fallback = "auto",
     .derper_fallback = "off"},
    {.name = "disable-rtt-stats",
     .kind = Kind::kSwitch,
     .field = &Config::disable_rtt_stats,
     .group = Group::kWatching,
     .help = "do not sample the round-trip times of clients (metric derp_tcp_rtt)",
     .fallback = "false",
     .derper_variable = "TS_DERP_DISABLE_RTT_STATS"},
    {.name = "log-drops",
     .kind = Kind::kNames,
     .field = &Config::log_drops,
     .group = Group::kWatching,
     .help = "node keys, with commas between them: a line in the log for each packet to them that "
             "is dropped; of each reason 20 at once and then one a second",
     .derper_variable = "TS_DEBUG_VERBOSE_DROPS",
     .reloadable = true},
    {.name = "debug-key-file",
     .kind = Kind::kFile,
     .field = &Config::debug_key_file,
     .group = Group::kWatching,
     .help = "file with the key that opens the /debug pages as ?debugkey=",
     .derper_variable = "TS_DEBUG_KEY_PATH"},
    {.name = "debug-allow-ip",
     .kind = Kind::kText,
     .field = &Config::debug_allow_ip,
     .group = Group::kWatching,
     .help = "one address that may read the /debug pages",
     .derper_variable = "TS_ALLOW_DEBUG_IP"},
    {.name = "debug-trusted-cidrs",
     .kind = Kind::kRanges,
     .field = &Config::debug_trusted_cidrs,
     .group = Group::kWatching,
     .help = "address ranges that may read the /debug pages, with commas between them",
     .derper_variable = "TS_DEBUG_TRUSTED_CIDRS"},

    // derper's alone.
    {.name = "dev",
     .kind = Kind::kSwitch,
     .field = &Config::dev,
     .help = "for development: -a is :3340, the key is thrown away at the end, the mesh key comes "
             "from TAILSCALE_DERPER_MESH_KEY",
     .fallback = "false",
     .derper_flag = "dev",
     .has_option = false,
     .has_variables = false},
    {.name = "secrets-url",
     .kind = Kind::kText,
     .field = &Config::secrets_url,
     .help = "setec server that has the mesh key, which is used instead of -mesh-psk-file",
     .derper_flag = "secrets-url",
     .has_option = false,
     .has_variables = false},
    {.name = "secrets-path-prefix",
     .kind = Kind::kText,
     .field = &Config::secrets_path_prefix,
     .help = "what stands before /meshkey in the secret's name",
     .fallback = "prod/derp",
     .derper_flag = "secrets-path-prefix",
     .has_option = false,
     .has_variables = false},
    {.name = "secrets-cache-dir",
     .kind = Kind::kFile,
     .field = &Config::secrets_cache_file,
     .help = "file (not a folder) that keeps what came from -secrets-url, for when it is away",
     .default_rule = default_secrets_cache_dir,
     .derper_flag = "secrets-cache-dir",
     .has_option = false,
     .has_variables = false},
    {.name = "version",
     .kind = Kind::kSwitch,
     .help = "print the version and exit",
     .fallback = "false",
     .derper_flag = "version",
     .has_option = false,
     .has_variables = false},
});

std::string as_variable(std::string_view prefix, std::string_view name) {
  std::string variable(prefix);
  for (const char c : name)
    variable += c == '-' ? '_' : c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
  return variable;
}

}  // namespace

std::string_view heading(Group group) {
  constexpr std::array<std::string_view, kGroupCount> kHeadings = {"Listening",
                                                                   "Name, key and certificate",
                                                                   "Certificates by ACME",
                                                                   "Who may log in",
                                                                   "Mesh",
                                                                   "Limits",
                                                                   "Relaying",
                                                                   "Pages",
                                                                   "A proxy in front",
                                                                   "Watching it",
                                                                   "Other"};
  return kHeadings[static_cast<std::size_t>(group)];
}

std::span<const SettingRow> settings_table() {
  return kTable;
}

const SettingRow& setting_row(std::string_view name) {
  const auto row = std::ranges::find(kTable, name, &SettingRow::name);
  DETOUR_CHECK(row != kTable.end());
  return *row;
}

Default default_of(const SettingRow& row, Personality personality, const Environment& environment) {
  Default result;
  if (row.default_rule != nullptr)
    result = row.default_rule(personality, environment);
  else if (personality == Personality::kDerper && row.derper_fallback)
    result.text = *row.derper_fallback;
  else
    result.text = row.fallback;
  if (result.source.empty()) result.source = "default";
  return result;
}

std::string_view value_name(const SettingRow& row) {
  switch (row.kind) {
    case Kind::kSwitch:
      return "";
    case Kind::kCount:
    case Kind::kNumber:
      return "N";
    case Kind::kPort:
    case Kind::kOptionalPort:
      return "PORT";
    case Kind::kTime:
    case Kind::kSignedTime:
      return "TIME";
    case Kind::kText:
    case Kind::kSecret:
      return "TEXT";
    case Kind::kFile:
    case Kind::kFiles:
      return "FILE";
    case Kind::kFolder:
      return "FOLDER";
    case Kind::kUrl:
    case Kind::kUrls:
      return "URL";
    case Kind::kHostname:
      return "NAME";
    case Kind::kHome:
      return "PAGE";
    case Kind::kListen:
    case Kind::kOptionalListen:
      return "ADDRESS";
    case Kind::kCertMode:
    case Kind::kTlsRecords:
      return "MODE";
    case Kind::kNames:
    case Kind::kMeshPeers:
      return "NAMES";
    case Kind::kRanges:
      return "RANGES";
  }
  return "";
}

std::vector<std::string> variables_of(const SettingRow& row) {
  std::vector<std::string> variables;
  const auto add = [&](std::string variable) {
    if (!variable.empty() && std::ranges::find(variables, variable) == variables.end())
      variables.push_back(std::move(variable));
  };
  if (row.has_variables) {
    add(as_variable("DETOUR_", row.name));
    add(as_variable("DERP_", row.name));
  }
  for (const auto variable : row.variables) add(std::string(variable));
  add(std::string(row.derper_variable));
  return variables;
}

}  // namespace detour::config
