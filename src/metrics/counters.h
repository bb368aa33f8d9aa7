#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace detour::metrics {

/// A number with one writing thread and any readers: no lock prefix, no shared cache line.
class Counter {
 public:
  void add(std::uint64_t amount = 1) {
    value_.store(value_.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }
  void sub(std::uint64_t amount = 1) {
    value_.store(value_.load(std::memory_order_relaxed) - amount, std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

/// A level with one writing thread and any readers.
class Gauge {
 public:
  void set(std::uint64_t value) { value_.store(value, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

/// Why a packet was not delivered. Order and names are those of the exported labels.
enum class DropReason : std::uint8_t {
  kUnknownDest,
  kUnknownDestOnFwd,
  kGoneDisconnected,
  kQueueHead,
  kQueueTail,
  kWriteError,
  kDupClient,
};
inline constexpr std::size_t kDropReasonCount = 7;

enum class PacketKind : std::uint8_t { kDisco, kOther };
inline constexpr std::size_t kPacketKindCount = 2;

/// What came of a CONNECT request (-ace). Order and names are those of the exported label.
enum class ConnectResult : std::uint8_t { kBusy, kFailed, kOpened, kRefused };
inline constexpr std::size_t kConnectResultCount = 4;

/// The value of the exported label `reason`: "unknown_dest".
[[nodiscard]] std::string_view label(DropReason reason);
/// The value of the exported label `kind`: "disco".
[[nodiscard]] std::string_view label(PacketKind kind);

/// Buckets of derp_tcp_rtt, not cumulative, and what is counted instead of a time.
enum class TcpRtt : std::uint8_t {
  kUpTo10ms,
  kUpTo20ms,
  kUpTo50ms,
  kUpTo100ms,
  kUpTo150ms,
  kUpTo250ms,
  kUpTo500ms,
  kLonger,
  kNonTcp,  ///< A WebSocket: counted once per connection, as derper does.
  kError,   ///< The kernel does not tell: once per connection.
};
inline constexpr std::size_t kTcpRttCount = 10;

/// The bucket of a round-trip time.
[[nodiscard]] TcpRtt tcp_rtt_bucket(std::chrono::microseconds round_trip_time);
/// The value of the exported label `le`: "10ms".
[[nodiscard]] std::string_view label(TcpRtt bucket);

struct PacketsAndBytes {
  Counter packets;
  Counter bytes;  ///< Payload bytes.
};

/// Upper bounds of derp_buffered_write_frames; the last bucket is +Inf.
inline constexpr std::array<std::uint64_t, 16> kWriteFrameBounds = {0, 1, 2,  3,  4,  5,  6,  7,
                                                                    8, 9, 10, 15, 20, 25, 50, 100};

/// Upper bounds of derp_mesh_update_batch_size and derp_mesh_update_loop_count.
inline constexpr std::array<std::uint64_t, 11> kMeshBatchBounds = {0,  1,   2,   5,   10,  20,
                                                                   50, 100, 200, 500, 1000};
inline constexpr std::array<std::uint64_t, 8> kMeshLoopBounds = {0, 1, 2, 5, 10, 20, 50, 100};

/// A histogram over fixed upper bounds; counts are per bucket, made cumulative when read.
template <std::size_t N>
class Histogram {
 public:
  explicit constexpr Histogram(const std::array<std::uint64_t, N>& bounds) : bounds_(bounds) {}

  void observe(std::uint64_t value) {
    std::size_t i = 0;
    while (i < N && value > bounds_[i]) ++i;
    buckets_[i].add();
    sum_.add(value);
  }
  [[nodiscard]] std::uint64_t bucket(std::size_t i) const { return buckets_[i].get(); }
  [[nodiscard]] std::uint64_t sum() const { return sum_.get(); }

 private:
  const std::array<std::uint64_t, N>& bounds_;
  std::array<Counter, N + 1> buckets_;
  Counter sum_;
};

/// Upper bounds of detour_admission_query_milliseconds; the last bucket is +Inf.
inline constexpr std::array<std::uint64_t, 12> kQueryBounds = {1,   2,   5,   10,   20,   50,
                                                               100, 200, 500, 1000, 2000, 5000};

/// What admission counts. Written by its thread alone.
struct AdmissionCounters {
  /// By source (tailscaled, url) and answer (allowed, denied, failed, unreachable).
  std::array<std::array<Counter, 4>, 2> answers;
  /// Logins by result: allowed, failed_open, denied, undecided, busy.
  std::array<Counter, 5> logins;
  Counter cache_hits;
  Counter cut_offs;
  Gauge waiting;    ///< Logins that wait for an answer.
  Gauge in_flight;  ///< Queries.
  Gauge allow_list_keys;
  Gauge allow_list_stale;  ///< 1 while the file cannot be read and the list before holds.
  Histogram<kQueryBounds.size()> query_milliseconds{kQueryBounds};
};

/// What one worker counts. Written by that worker alone, read by anyone; sums over workers are
/// exported.
///
/// Gauges (connections and the like) are pairs of "up" and "down" in one wrapping counter, so that
/// a client may arrive on one worker and be counted out on another.
struct alignas(64) WorkerCounters {
  Counter accepts;            ///< DERP connections taken over.
  Counter websocket_accepts;  ///< Those of them inside a WebSocket.
  std::array<PacketsAndBytes, kPacketKindCount> received;
  std::array<PacketsAndBytes, kPacketKindCount> sent;
  std::array<std::array<PacketsAndBytes, kPacketKindCount>, kDropReasonCount> dropped;
  Counter got_ping;
  Counter sent_pong;
  Counter peer_gone_disconnected;
  Counter peer_gone_not_here;
  Counter home_moves_in;
  Counter home_moves_out;
  Counter write_timeouts;
  Counter current_connections;
  Counter current_home_connections;
  Counter current_notideal_connections;
  Histogram<kWriteFrameBounds.size()> buffered_write_frames{kWriteFrameBounds};
  /// Exponential moving average of time in queue, in milliseconds, as raw bits of a double.
  std::atomic<double> average_queue_duration_ms{0};

  // Mesh.
  Counter packets_forwarded_in;   ///< ForwardPacket frames from mesh peers.
  Counter packets_forwarded_out;  ///< Packets for clients of mesh peers.
  Histogram<kMeshBatchBounds.size()> mesh_update_batch_size{kMeshBatchBounds};
  Histogram<kMeshLoopBounds.size()> mesh_update_loop_count{kMeshLoopBounds};
  Counter mesh_links_up;        ///< Links to mesh peers that watch now.
  Counter mesh_link_failures;   ///< Links that ended or did not come about.
  Counter mesh_watchers_ended;  ///< Watchers closed because they fell too far behind.
  std::array<Counter, kTcpRttCount> tcp_rtt;

  // TLS handshakes finished, by version: 1.0, 1.1, 1.2, 1.3, unknown.
  std::array<Counter, 5> tls_requests;
  std::array<Counter, 5> tls_active;
  Counter tcp_accepted;  ///< On the TLS listener.
  Counter tcp_rejected;

  // STUN.
  Counter stun_success;
  Counter stun_not_stun;
  Counter stun_read_error;
  Counter stun_write_error;
  Counter stun_no_local_addr;
  Counter stun_ipv4;
  Counter stun_ipv6;

  // Ours alone: bounds that bit.
  Counter handshake_timeouts;
  Counter handshake_failures;
  Counter http_head_too_large;
  Counter accept_paused;
  Counter control_frames_dropped;
  Counter refused_for_total;    ///< Connections closed because all were taken.
  Counter refused_for_address;  ///< The same for those of one address.
  Counter rate_limit_waits;     ///< Times that a client was not read until its rate allowed it.
  Counter logins;
  Counter connect_tunnels;  ///< Open now.
  std::array<Counter, kConnectResultCount> connect_requests;

  void count(ConnectResult result) { connect_requests[static_cast<std::size_t>(result)].add(); }
  void sample_rtt(TcpRtt bucket) { tcp_rtt[static_cast<std::size_t>(bucket)].add(); }
  void drop(DropReason reason, PacketKind kind, std::uint64_t payload_bytes) {
    auto& cell = dropped[static_cast<std::size_t>(reason)][static_cast<std::size_t>(kind)];
    cell.packets.add();
    cell.bytes.add(payload_bytes);
  }
};

}  // namespace detour::metrics
