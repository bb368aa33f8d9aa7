#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "crypto/keys.h"
#include "metrics/exposition.h"
#include "relay/client.h"
#include "relay/pair_sampler.h"

/// What a running relay says of itself, and its JSON form (docs/operations.md, Status). Values in,
/// values out.
namespace detour::admin {

using WallTime = std::chrono::system_clock::time_point;

/// One client, as its worker saw it.
struct ClientStatus {
  relay::Client::Identity identity;
  relay::Client::Received received;
  bool is_home = false;
  bool is_duplicate = false;
  bool is_active = true;  ///< Of the connections of its key, the one that receives.
  bool is_websocket = false;
  std::uint64_t sent_packets = 0;
  std::uint64_t sent_bytes = 0;       ///< Payload only.
  std::uint64_t evicted_packets = 0;  ///< Dropped, because newer ones needed the place.
  std::uint32_t waiting_data = 0;     ///< Packets in its queues.
  std::uint32_t waiting_disco = 0;
  std::uint32_t waiting_control = 0;  ///< Frames.
  std::uint64_t waiting_bytes = 0;
  std::string_view tls{};  ///< "1.3"; empty without TLS. Lives for ever.
  std::size_t worker = 0;
  struct Tcp {
    std::chrono::microseconds round_trip_time{};
    std::chrono::microseconds variation{};
    std::uint32_t congestion_window = 0;  ///< Segments.
    std::uint32_t retransmissions = 0;    ///< Segments.
    std::uint64_t sent_bytes = 0;         ///< TLS and all.
    std::uint64_t received_bytes = 0;
  };
  std::optional<Tcp> tcp{};

  // By what the picture before said:
  std::optional<double> received_per_second{};  ///< Payload bytes.
  std::optional<double> sent_per_second{};
  std::string name{};  ///< From the allow file; empty = not there.

  [[nodiscard]] double bytes_per_second() const {
    return received_per_second.value_or(0) + sent_per_second.value_or(0);
  }
};

/// A link to a mesh peer that is to be kept up.
struct MeshStatus {
  std::string name;  ///< As the operator wrote it.
  bool is_up = false;
  std::string address{};  ///< Where it leads, or empty.
  std::string key{};      ///< Typed, or empty.
  std::uint64_t sent_packets = 0;
  std::uint64_t sent_bytes = 0;
  std::uint64_t evicted_packets = 0;
  std::string last_failure{};  ///< Why it is down.
};

struct CertificateState {
  std::string name;
  bool is_serving = false;
  WallTime not_before{};
  WallTime not_after{};
  std::uint64_t renewals = 0;
  std::uint64_t failures = 0;
  std::string last_error{};
};

struct AdmissionSourceState {
  std::string kind;   ///< "tailscaled" or "url".
  std::string where;  ///< Socket or URL.
  bool was_asked = false;
  bool is_failing = false;  ///< What was asked last got no answer.
  std::string last_error{};
};

struct AdmissionState {
  bool is_checking = false;  ///< Otherwise everybody comes in.
  std::vector<AdmissionSourceState> sources{};
  std::string allow_file{};
  std::uint64_t allow_file_keys = 0;
  bool allow_file_is_stale = false;  ///< It cannot be read, and what it said before holds.
};

/// What two keys said to each other of late: from a sample, so about.
struct PairStatus {
  crypto::NodePublic a;
  crypto::NodePublic b;  ///< Larger than `a`.
  std::uint64_t bytes_from_a = 0;
  std::uint64_t bytes_from_b = 0;
  std::uint64_t packets = 0;
  std::string name_a{};
  std::string name_b{};

  [[nodiscard]] std::uint64_t bytes() const { return bytes_from_a + bytes_from_b; }
};

/// A socket that the relay listens on.
struct ListeningState {
  std::string what;     ///< "derp", "http", "stun" or "monitoring".
  std::string address;  ///< With the port: "[::]:443".
};

/// A picture of the whole relay.
struct RelayStatus {
  WallTime at{};
  TimePoint now{};
  TimePoint started_at{};
  WallTime started_wall{};
  std::string version{};
  std::string public_key{};
  std::string hostname{};
  std::vector<ListeningState> listening{};
  std::string machine{};
  std::string state = "serving";  ///< Or "draining", "stopping".
  std::optional<std::chrono::milliseconds> drain_left{};
  std::string unready{};  ///< Why /readyz would say no; empty = it is ready.
  std::size_t workers = 0;
  std::vector<std::size_t> silent_workers{};  ///< Those that did not answer: their part is missing.
  std::uint64_t connections = 0;              ///< Accepted and not closed, clients or not.
  metrics::Snapshot totals{};
  std::optional<double> received_per_second{};  ///< Payload bytes of all clients.
  std::optional<double> sent_per_second{};
  std::vector<ClientStatus> clients{};
  std::vector<PairStatus> pairs{};  ///< The most talkative first.
  Duration pairs_cover{};
  std::vector<MeshStatus> mesh{};
  std::vector<CertificateState> certificates{};
  AdmissionState admission{};

  /// The same for each picture, however the machine's clock was set meanwhile.
  [[nodiscard]] WallTime wall_time(TimePoint time) const {
    return started_wall + std::chrono::duration_cast<WallTime::duration>(time - started_at);
  }
};

/// Pairs kept in a picture.
inline constexpr std::size_t kPairsShownMax = 50;

/// Joins what the workers sampled: both directions of a pair together, the largest first, at most
/// `count_max` of them.
[[nodiscard]] std::vector<PairStatus> join_pairs(
    const std::vector<relay::PairSampler::Report>& reports, std::size_t count_max);

/// Fills in how fast each client of `status` and the relay as a whole received and sent since
/// `before`. Nothing when less than a tenth of a second lies between them.
void add_rates(RelayStatus& status, const RelayStatus& before);

/// How a list of clients is sorted. Ties are in the order in which the clients came.
enum class ClientOrder : std::uint8_t {
  kRate,      ///< The fastest first.
  kReceived,  ///< Bytes, the most first; so are the next ones.
  kSent,
  kDrops,
  kWaiting,
  kRtt,
  kConnected,  ///< The newest first.
  kName,       ///< By the alphabet, those without a name last and by key.
  kKey,
  kAddress,
};
/// "rate", "received", "sent", "drops", "waiting", "rtt", "connected", "name", "key", "address".
[[nodiscard]] std::optional<ClientOrder> parse_client_order(std::string_view text);
inline constexpr std::string_view kClientOrders =
    "rate, received, sent, drops, waiting, rtt, connected, name, key, address";

/// How much of the list of clients a text holds.
struct ClientSelection {
  ClientOrder order = ClientOrder::kRate;
  std::size_t limit = 1000;
};
/// Clients in the JSON at most: what is asked for beyond that is cut.
inline constexpr std::size_t kClientsListedMax = 10'000;

/// From `sort=` and `limit=` of a query. The text says what is wrong with it.
[[nodiscard]] std::optional<ClientSelection> parse_client_selection(std::string_view query,
                                                                    std::string& problem);

/// The clients to list, in order. Valid as long as `status` is.
[[nodiscard]] std::vector<const ClientStatus*> select_clients(const RelayStatus& status,
                                                              const ClientSelection& selection);

/// One JSON object, newline at the end.
[[nodiscard]] std::string format_status_json(const RelayStatus& status,
                                             const ClientSelection& selection);

/// 16 bytes of an address as text: "203.0.113.7", "2001:db8::1".
[[nodiscard]] std::string ip_text(const std::array<std::uint8_t, derp::kIpSize>& ip);
/// With the port: "203.0.113.7:443", "[2001:db8::1]:443".
[[nodiscard]] std::string address_text(const relay::Client::Identity& identity);
/// "2026-11-21T16:05:44Z".
[[nodiscard]] std::string time_text(WallTime time);

}  // namespace detour::admin
