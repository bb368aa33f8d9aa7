#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"

/// Flags, environment and files, turned into one checked value.
namespace detour::config {

/// Which program the command line was written for; decides defaults and exit codes.
enum class Personality : std::uint8_t {
  kDetour,  ///< `detour serve`: long options.
  kDerper,  ///< Started under the name derper: derper's flags, defaults and exit codes.
};

inline constexpr std::uint32_t kWorkersMax = 256;
inline constexpr std::uint32_t kQueuePacketsMaxLimit = 65536;
inline constexpr Duration kGatherMax = std::chrono::milliseconds(10);

/// An address to listen on. Port 0 lets the kernel choose. An empty `host` means all addresses,
/// IPv4 and IPv6.
struct ListenAddress {
  std::string host;  ///< IPv4 or IPv6 literal without brackets, or empty.
  std::uint16_t port = 0;

  friend bool operator==(const ListenAddress&, const ListenAddress&) = default;
};

enum class HomePage : std::uint8_t { kDefault, kBlank, kRedirect };

/// Who protects the records of a TLS connection once its handshake is over.
enum class TlsRecords : std::uint8_t {
  kAuto,     ///< The fastest of the next two that this machine has.
  kIpsecMb,  ///< Ourselves, with Intel's multi-buffer library.
  kEvp,      ///< Ourselves, with OpenSSL's ciphers.
  kOpenSsl,  ///< OpenSSL altogether.
};

/// Where the certificate comes from.
enum class CertMode : std::uint8_t {
  kManual,       ///< Files that somebody else writes; for an IP address made by ourselves.
  kLetsEncrypt,  ///< ACME, by default from Let's Encrypt.
  kGcp,          ///< ACME from Google's CA with external account binding.
};

/// Another relay of this region to connect to: its address is `host`, but the TCP connection goes
/// to `dial_host` when that is set (a VPC address).
struct MeshPeer {
  std::string host;       ///< Name or IP literal, with ":port" if it is not 443.
  std::string dial_host;  ///< Name or IP literal without a port, or empty.

  friend bool operator==(const MeshPeer&, const MeshPeer&) = default;
};

/// Everything `detour serve` runs on. Checked: a value that got here can be used as it is.
struct Config {
  Personality personality = Personality::kDetour;

  ListenAddress listen{.host = "", .port = 443};
  bool tls = true;
  std::optional<std::uint16_t> http_port = 80;  ///< Plain HTTP beside TLS; nullopt = off.
  bool stun = true;
  std::uint16_t stun_port = 3478;
  bool derp = true;

  TlsRecords tls_records = TlsRecords::kAuto;

  std::string hostname;   ///< DNS name in lower case, or an IP literal without brackets.
  std::string key_file;   ///< The relay's own key, in derper's format.
  std::string cert_dir;   ///< Empty without TLS.
  std::string cert_file;  ///< Explicit --cert/--key win over cert_dir.
  std::string cert_key_file;
  /// Serve a leaf whose issuer is not in the file although no public root signed it: a private CA.
  bool allow_incomplete_chain = false;

  CertMode cert_mode = CertMode::kManual;
  std::string acme_directory;  ///< URL of a private ACME server; empty = the mode's own.
  std::string acme_ca_file;    ///< PEM of the CA that `acme_directory`'s own certificate is from.
  std::string acme_email;
  std::string acme_eab_kid;
  std::string acme_eab_key;  ///< HMAC key in base64url or base64.
  bool acme_ip_certs = false;
  std::string acme_dns_hook;  ///< Program that sets and removes TXT records: DNS-01. Empty = none.

  HomePage home = HomePage::kDefault;
  std::string home_redirect;
  std::string serve_map;             ///< Path at which the DERP map is served; empty = not.
  std::string serve_map_token_file;  ///< What who reads it has to bring; empty = nothing.
  std::vector<std::string> bootstrap_dns_names;
  std::vector<std::string> unpublished_bootstrap_dns_names;  ///< "name" or "name/txt-record".
  bool ace = false;                                          ///< CONNECT to the control plane.

  // A proxy in front.
  std::vector<std::string>
      trusted_proxies;          ///< CIDRs whose X-Forwarded-For and PROXY are believed.
  bool proxy_protocol = false;  ///< Connections from trusted proxies begin with a PROXY header.

  // Mesh.
  std::string mesh_key_file;  ///< Empty = no mesh key, but for `mesh_key`.
  std::string mesh_key;       ///< 64 hex digits, from the environment with -dev. Secret.
  std::string secrets_url;    ///< setec server that has the mesh key, instead; empty = none.
  std::string secrets_path_prefix;
  std::string secrets_cache_file;  ///< What came from `secrets_url` last; empty = not kept.
  std::vector<MeshPeer> mesh_with;

  // Who may log in. Nothing set = everybody. Sources are OR-combined.
  bool verify_clients = false;                  ///< Ask the local tailscaled.
  std::vector<std::string> tailscaled_sockets;  ///< Empty = the usual places.
  std::vector<std::string> verify_urls;
  std::string verify_url_auth_file;  ///< Its content becomes the Authorization header.
  bool verify_fail_open = false;     ///< Let a client in when every URL fails to answer.
  std::string allow_file;            ///< Node keys, one a line.
  std::vector<std::string> disallowed_app_names;

  // Limits.
  double accept_connections_per_second = std::numeric_limits<double>::infinity();
  std::uint64_t accept_connections_burst = std::numeric_limits<std::int64_t>::max();
  std::uint32_t connections_max = 0;              ///< 0 = as many as there are descriptors.
  std::uint32_t connections_per_address_max = 0;  ///< 0 = no limit.
  std::string rate_config_file;                   ///< JSON, read again on SIGHUP.

  // A listener of its own for the status page, /metrics, /healthz, /readyz; nullopt = none.
  std::optional<ListenAddress> metrics_listen;
  std::string metrics_token_file;  ///< Bearer token for /metrics and the page; empty = none.
  /// Unix socket for `detour status` and its like: a path, "auto" or "off".
  std::string control_socket = "off";
  bool dev = false;  ///< derper's -dev.

  std::uint32_t workers = 1;                               ///< 1 to kWorkersMax.
  Duration tcp_keepalive_time = std::chrono::minutes(10);  ///< Zero = no keepalive probes.
  Duration tcp_user_timeout = std::chrono::seconds(15);    ///< Zero = the kernel's default.
  Duration tcp_write_timeout = std::chrono::seconds(2);    ///< Zero = none.
  bool disable_rtt_stats = false;                          ///< No samples for derp_tcp_rtt.
  /// How long a busy worker lets packets gather between turns at most; zero = off, up to
  /// kGatherMax.
  Duration gather = std::chrono::microseconds(500);
  std::uint32_t queue_packets_max = 32;  ///< Per client, for data and for disco each.

  /// Each packet to these node keys that is dropped is logged: "nodekey:" and 64 hex digits.
  std::vector<std::string> log_drops;

  // Who may read /debug pages.
  std::string debug_key_file;                    ///< TS_DEBUG_KEY_PATH.
  std::string debug_allow_ip;                    ///< TS_ALLOW_DEBUG_IP.
  std::vector<std::string> debug_trusted_cidrs;  ///< TS_DEBUG_TRUSTED_CIDRS, each one checked.

  // What the program calls itself, for metrics and the debug index.
  std::string version;      ///< Long form: "0.1.0" or "0.1.0-3-gdeadbeef0".
  std::string binary_name;  ///< "detour" or "derper".
};

}  // namespace detour::config
