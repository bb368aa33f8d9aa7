#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "metrics/counters.h"

/// The two texts in which counters leave the relay, with derper's names: Prometheus text for
/// `/debug/varz` and one JSON object for `/debug/vars` (docs/metrics.md). No I/O.
namespace detour::metrics {

/// What the process costs, as /proc tells it (process.h reads it).
struct ProcessUsage {
  double cpu_seconds = 0;  ///< User and system time.
  std::uint64_t resident_bytes = 0;
  std::uint64_t virtual_bytes = 0;
  std::uint64_t open_fds = 0;
  std::uint64_t max_fds = 0;            ///< The soft limit.
  std::uint64_t virtual_max_bytes = 0;  ///< The limit of address space; the largest number = none.
  std::uint64_t network_received_bytes = 0;  ///< All IP traffic of this network namespace.
  std::uint64_t network_sent_bytes = 0;
  double start_unix_seconds = 0;
  std::int64_t boot_unix_seconds = 0;  ///< When the machine started; 0 leaves the metric out.
};

struct PacketTotals {
  std::uint64_t packets = 0;
  std::uint64_t bytes = 0;  ///< Payload bytes.
};

/// How one certificate is doing.
struct CertificateTotals {
  std::string name;                      ///< Host name or address.
  std::uint64_t expires_in_seconds = 0;  ///< 0: expired, or there is none yet.
  std::uint64_t renewals = 0;            ///< Orders, or changed files that were read.
  std::uint64_t failures = 0;            ///< Of those.
  std::string last_error;                ///< Of the last renewal; empty when that was fine.
};

template <std::size_t N>
struct HistogramTotals {
  std::array<std::uint64_t, N + 1> buckets{};  ///< Not cumulative; the last one is +Inf.
  std::uint64_t sum = 0;
};

/// TLS versions in the order of WorkerCounters::tls_requests: 1.0, 1.1, 1.2, 1.3, unknown.
inline constexpr std::size_t kTlsVersionCount = 5;

/// One consistent set of numbers to export. A plain value: begin with an empty one, accumulate the
/// counters of each worker, then fill in the rest.
struct Snapshot {
  // Sums over workers, by accumulate().
  std::uint64_t accepts = 0;
  std::uint64_t websocket_accepts = 0;
  std::array<PacketTotals, kPacketKindCount> received{};
  std::array<PacketTotals, kPacketKindCount> sent{};
  std::array<std::array<PacketTotals, kPacketKindCount>, kDropReasonCount> dropped{};
  std::uint64_t got_ping = 0;
  std::uint64_t sent_pong = 0;
  std::uint64_t peer_gone_disconnected = 0;
  std::uint64_t peer_gone_not_here = 0;
  std::uint64_t home_moves_in = 0;
  std::uint64_t home_moves_out = 0;
  std::uint64_t write_timeouts = 0;
  // Gauges that workers count up and down: a worker's own share may wrap, the sum does not.
  std::uint64_t current_connections = 0;
  std::uint64_t current_home_connections = 0;
  std::uint64_t current_notideal_connections = 0;
  HistogramTotals<kWriteFrameBounds.size()> buffered_write_frames{};
  std::uint64_t packets_forwarded_in = 0;
  std::uint64_t packets_forwarded_out = 0;
  HistogramTotals<kMeshBatchBounds.size()> mesh_update_batch_size{};
  HistogramTotals<kMeshLoopBounds.size()> mesh_update_loop_count{};
  std::uint64_t mesh_links_up = 0;
  std::uint64_t mesh_link_failures = 0;
  std::uint64_t mesh_watchers_ended = 0;
  std::array<std::uint64_t, kTcpRttCount> tcp_rtt{};
  double average_queue_ms_sum = 0;        ///< Over the workers that have measured any.
  std::uint64_t average_queue_count = 0;  ///< How many workers that were.
  std::array<std::uint64_t, kTlsVersionCount> tls_requests{};
  std::array<std::uint64_t, kTlsVersionCount> tls_active{};
  std::uint64_t tcp_accepted = 0;
  std::uint64_t tcp_rejected = 0;
  std::uint64_t stun_success = 0;
  std::uint64_t stun_not_stun = 0;
  std::uint64_t stun_read_error = 0;
  std::uint64_t stun_write_error = 0;
  std::uint64_t stun_no_local_addr = 0;
  std::uint64_t stun_ipv4 = 0;
  std::uint64_t stun_ipv6 = 0;
  std::uint64_t handshake_timeouts = 0;
  std::uint64_t handshake_failures = 0;
  std::uint64_t http_head_too_large = 0;
  std::uint64_t accept_paused = 0;
  std::uint64_t control_frames_dropped = 0;
  std::uint64_t logins = 0;
  std::uint64_t refused_for_total = 0;
  std::uint64_t refused_for_address = 0;
  std::uint64_t rate_limit_waits = 0;
  std::uint64_t connect_tunnels = 0;
  std::array<std::uint64_t, kConnectResultCount> connect_requests{};

  // From the directory, by the caller. Keys are counted once, however many connections they have.
  std::uint64_t clients_local = 0;
  std::uint64_t clients_remote = 0;  ///< Known through mesh peers alone.
  std::uint64_t current_dup_client_keys = 0;
  std::uint64_t current_dup_client_conns = 0;
  std::uint64_t total_dup_client_conns = 0;  ///< Since the start.
  std::uint64_t watchers = 0;
  std::uint64_t multiforwarder_created = 0;  ///< Keys that came to have a second mesh peer.
  std::uint64_t multiforwarder_deleted = 0;  ///< Keys that went back to one.
  std::uint64_t packet_forwarder_delete_other_value = 0;
  std::uint64_t mesh_links_configured = 0;

  // The receive rate in use, by the caller; exported only where a file sets it.
  bool has_rate_config = false;
  std::uint64_t rate_limit_bytes_per_second = 0;
  std::uint64_t rate_limit_burst_bytes = 0;

  // By the caller, where clients are checked: see AdmissionCounters.
  struct Admission {
    std::array<std::array<std::uint64_t, 4>, 2> answers{};
    std::array<std::uint64_t, 5> logins{};
    std::uint64_t cache_hits = 0;
    std::uint64_t cut_offs = 0;
    std::uint64_t waiting = 0;
    std::uint64_t in_flight = 0;
    std::uint64_t allow_list_keys = 0;
    std::uint64_t allow_list_stale = 0;
    HistogramTotals<kQueryBounds.size()> query_milliseconds{};
  };
  std::optional<Admission> admission;
  std::vector<CertificateTotals> certificates;  ///< By the caller, in the order of their names.

  // About /bootstrap-dns, by the caller.
  std::uint64_t bootstrap_dns_requests = 0;
  std::uint64_t bootstrap_dns_published_hits = 0;
  std::uint64_t bootstrap_dns_published_misses = 0;
  std::uint64_t bootstrap_dns_queried_domains = 0;
  std::uint64_t bootstrap_dns_unpublished_hits = 0;
  std::uint64_t bootstrap_dns_unpublished_misses = 0;
  std::uint64_t bootstrap_dns_unpublished_percent_misses = 0;

  // About the process, by the caller.
  ProcessUsage process;
  std::uint64_t memory_at_start_bytes = 0;  ///< Resident once everything was set up.
  std::uint64_t uptime_seconds = 0;
  bool has_tls_listener = true;  ///< Without one, its counters are left out, as derper does.
  std::string version;           ///< Long form, as `-version` prints it.
  std::string binary = "detour";
};

/// What admission has counted so far.
[[nodiscard]] Snapshot::Admission read_admission(const AdmissionCounters& counters);

/// Adds what one worker has counted so far. May run while the worker goes on counting.
void accumulate(Snapshot& snapshot, const WorkerCounters& worker);

/// Prometheus text, version 0.0.4: first `process_*`, then derper's metrics in its order.
[[nodiscard]] std::string format_prometheus(const Snapshot& snapshot);

/// One JSON object with derper's expvar names, newline at the end.
[[nodiscard]] std::string format_expvar_json(const Snapshot& snapshot);

}  // namespace detour::metrics
