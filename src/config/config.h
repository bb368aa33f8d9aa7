#pragma once

#include <chrono>
#include <cstdint>
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

/// Everything `detour serve` runs on. Checked: a value that got here can be used as it is.
struct Config {
  Personality personality = Personality::kDetour;

  ListenAddress listen{.host = "", .port = 443};
  bool tls = true;
  std::optional<std::uint16_t> http_port = 80;  ///< Plain HTTP beside TLS; nullopt = off.
  bool stun = true;
  std::uint16_t stun_port = 3478;
  bool derp = true;

  std::string hostname;   ///< DNS name in lower case, or an IP literal without brackets.
  std::string key_file;   ///< The relay's own key, in derper's format.
  std::string cert_dir;   ///< Empty without TLS.
  std::string cert_file;  ///< Explicit --cert/--key win over cert_dir.
  std::string cert_key_file;
  /// Serve a leaf whose issuer is not in the file although no public root signed it: a private CA.
  bool allow_incomplete_chain = false;

  HomePage home = HomePage::kDefault;
  std::string home_redirect;

  std::uint32_t workers = 1;                               ///< 1 to kWorkersMax.
  Duration tcp_keepalive_time = std::chrono::minutes(10);  ///< Zero = no keepalive probes.
  Duration tcp_user_timeout = std::chrono::seconds(15);    ///< Zero = the kernel's default.
  Duration tcp_write_timeout = std::chrono::seconds(2);    ///< Zero = none.
  /// How long a busy worker lets packets gather between turns; zero = off, at most kGatherMax.
  Duration gather = std::chrono::microseconds(200);
  std::uint32_t queue_packets_max = 32;  ///< Per client, for data and for disco each.

  // Who may read /debug pages.
  std::string debug_key_file;                    ///< TS_DEBUG_KEY_PATH.
  std::string debug_allow_ip;                    ///< TS_ALLOW_DEBUG_IP.
  std::vector<std::string> debug_trusted_cidrs;  ///< TS_DEBUG_TRUSTED_CIDRS, each one checked.

  // What the program calls itself, for metrics and the debug index.
  std::string version;      ///< Long form: "0.1.0" or "0.1.0-3-gdeadbeef0".
  std::string binary_name;  ///< "detour" or "derper".
};

}  // namespace detour::config
