#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "admin/debug_access.h"
#include "admin/status.h"
#include "base/buffer_pool.h"
#include "base/log.h"
#include "base/quiescent.h"
#include "config/config.h"
#include "crypto/keys.h"
#include "crypto/shared_key_cache.h"
#include "net/tls_context.h"
#include "relay/directory.h"
#include "relay/receive_limit.h"
#include "server/admission_link.h"
#include "server/bootstrap_dns.h"
#include "server/connect_tunnel.h"
#include "server/connection_limits.h"
#include "server/debug_desk.h"
#include "server/drain.h"
#include "server/drop_log.h"
#include "server/last_visit.h"
#include "server/reload.h"

namespace detour::server {

class Certificates;
class HttpService;
class MeshPeers;
class Surveyor;
class Worker;

/// The largest part of the descriptors that connections may use up; the rest serves files and
/// sockets of the relay itself.
inline constexpr std::uint64_t kDescriptorsReserved = 24;

/// Of 8192 clients the NaCl key is kept for their next login, in 0.6 MB.
inline constexpr std::size_t kSharedKeySets = 2048;

/// A login has this long from accept to ServerInfo, TLS and HTTP included.
inline constexpr Duration kLoginTimeout = std::chrono::seconds(10);
/// An HTTP connection without a request is closed after this long (as the reference does).
inline constexpr Duration kHttpIdleTimeout = std::chrono::seconds(30);
/// KeepAlive goes out every 60 s plus up to 5 s, fixed per connection (server-behaviour 0).
inline constexpr Duration kKeepAlivePeriod = std::chrono::seconds(60);
inline constexpr Duration kKeepAliveJitter = std::chrono::seconds(5);
/// A mesh peer may take nothing for this long, whatever tcp_write_timeout says to clients.
inline constexpr Duration kMeshWriteTimeout = std::chrono::seconds(30);
/// How often the round-trip time of each client's connection is looked at (derp_tcp_rtt).
inline constexpr Duration kRttInterval = std::chrono::seconds(10);

/// Causes of log lines that a peer can provoke: each has its own gate, so that none drowns the
/// others.
enum class LogCause : std::uint8_t {
  kTlsFailed,
  kLoginRefused,
  kProtocolError,
  kHandshakeTimeout,
  kHttpRejected,
  kProxyHeader,
  kWriteTimeout,
  kAcceptPaused,
  kStunFailed,
  kAcceptRate,
  kConnectionLimit,
  kMesh,
  kConnect,
};
inline constexpr std::size_t kLogCauseCount = 13;

/// What all workers of one relay share. Constant after start but for what is atomic or locked
/// inside.
class Shared {
 public:
  Shared(const config::Config& config_in, const crypto::NodePrivate& key,
         std::string mesh_authorities_file, Log& log_in);
  ~Shared();
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  const config::Config config;
  const crypto::NodePrivate private_key;
  const crypto::NodePublic public_key;
  crypto::SharedKeyCache shared_keys{kSharedKeySets};
  Log& log;
  Quiescence quiescence;
  relay::Directory directory;
  BlockDepot block_depot;                      ///< Evens out the workers' pools.
  std::unique_ptr<Certificates> certificates;  ///< Null when the main listener is plain HTTP.
  net::TlsContext* tls = nullptr;              ///< That of `certificates`.
  const std::unique_ptr<MeshPeers> mesh_peers;
  BootstrapDns bootstrap_dns;
  DropLog drop_log;
  ConnectTunnels tunnels;
  std::unique_ptr<HttpService> http;
  /// Who is told of a changed configuration. `config` itself stays as it was at the start.
  ReloadSubscribers reload_subscribers;
  std::vector<std::unique_ptr<Worker>> workers;
  AdmissionLink admission{*this};
  const std::unique_ptr<Surveyor> surveyor;
  DebugDesk debug_desk{*this};
  Drain drain{*this};
  /// Where the relay listens, but for the listener for monitoring.
  std::vector<admin::ListeningState> listening;
  LastVisit last_visit;

  ConnectionLimits
      limits;  ///< Counts connections that are accepted and not closed, on all listeners.
  std::uint64_t descriptors_for_connections = 0;
  std::atomic<std::uint64_t> mesh_links{0};  ///< To keep up, without one to ourselves.
  const TimePoint started_at = Clock::now();
  const std::chrono::system_clock::time_point started_wall = std::chrono::system_clock::now();

  /// The secret that the relays of a region share, for logins from now on; zero = no mesh.
  [[nodiscard]] crypto::MeshKey mesh_key() const;
  /// From any thread. Says nothing to who is logged in.
  void set_mesh_key(const crypto::MeshKey& key);

  /// How fast each client may send; for logins from now on.
  [[nodiscard]] relay::ReceiveRate receive_rate() const;
  /// The same for all clients: those that are there get a full bucket. From any thread.
  void set_receive_rate(relay::ReceiveRate rate);

  /// For the sending side of a connection to `destination`.
  [[nodiscard]] std::optional<relay::DropSite> drop_site_of(const crypto::NodePublic& destination) {
    if (!drop_log.wants_drops()) return std::nullopt;
    return relay::DropSite{.watcher = drop_log, .destination = destination};
  }

  /// Whether connections from this address are those of many clients.
  [[nodiscard]] bool is_trusted_proxy(const net::SocketAddress& address) const;
  [[nodiscard]] const std::vector<admin::IpPrefix>& trusted_proxies() const {
    return trusted_proxies_;
  }

  /// Logs what `make_message` returns unless lines of this cause came too fast; says then how many
  /// were held back.
  template <typename MakeMessage>
  void log_gated(LogCause cause, LogLevel level, TimePoint now, MakeMessage make_message) {
    std::uint64_t suppressed = 0;
    if (!gates_[static_cast<std::size_t>(cause)].gate.admit(now, &suppressed)) return;
    std::string message = make_message();
    if (suppressed != 0)
      message += " (" + std::to_string(suppressed) + " more like this were not logged)";
    log.write(level, message);
  }

 private:
  mutable std::mutex mesh_key_mutex_;
  crypto::MeshKey mesh_key_;
  mutable std::mutex receive_rate_mutex_;
  relay::ReceiveRate receive_rate_;
  std::vector<admin::IpPrefix> trusted_proxies_;

  struct Gate {
    LogGate gate{/*burst=*/5, std::chrono::seconds(30)};
  };
  std::array<Gate, kLogCauseCount> gates_;
};

}  // namespace detour::server
