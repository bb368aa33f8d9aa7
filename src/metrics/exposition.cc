#include "metrics/exposition.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "metrics/expvar.h"

namespace detour::metrics {
namespace {

constexpr std::array<std::string_view, kTlsVersionCount> kTlsVersions = {"1.0", "1.1", "1.2", "1.3",
                                                                         "unknown"};
/// Versions that we negotiate, so that their counters exist from the start.
constexpr std::size_t kTls12 = 2;
constexpr std::size_t kTls13 = 3;

// In the order of the exported text, which sorts by label.
constexpr std::array kDropReasons = {
    DropReason::kDupClient,  DropReason::kGoneDisconnected, DropReason::kQueueHead,
    DropReason::kQueueTail,  DropReason::kUnknownDest,      DropReason::kUnknownDestOnFwd,
    DropReason::kWriteError,
};
constexpr std::array kPacketKinds = {PacketKind::kDisco, PacketKind::kOther};
static_assert(kDropReasons.size() == kDropReasonCount);
static_assert(kPacketKinds.size() == kPacketKindCount);

template <typename Enum>
[[nodiscard]] constexpr std::size_t index(Enum value) {
  return static_cast<std::size_t>(value);
}

[[nodiscard]] std::uint64_t sum_of(const std::array<PacketTotals, kPacketKindCount>& totals,
                                   std::uint64_t PacketTotals::* member) {
  std::uint64_t sum = 0;
  for (const PacketTotals& kind : totals) sum += kind.*member;
  return sum;
}

[[nodiscard]] LabelMap by_kind(const std::array<PacketTotals, kPacketKindCount>& totals) {
  LabelMap map{.label = "kind", .samples = {}};
  for (const PacketKind kind : kPacketKinds) {
    map.samples.emplace_back(label(kind), totals[index(kind)].packets);
  }
  return map;
}

/// All reasons and kinds from the start, so that a rate over the first drop is not lost.
[[nodiscard]] MultiLabelMap drops(const Snapshot& snapshot, std::uint64_t PacketTotals::* member) {
  MultiLabelMap map;
  for (const DropReason reason : kDropReasons) {
    for (const PacketKind kind : kPacketKinds) {
      map.samples.emplace_back(fmt::format("reason=\"{}\",kind=\"{}\"", label(reason), label(kind)),
                               snapshot.dropped[index(reason)][index(kind)].*member);
    }
  }
  return map;
}

[[nodiscard]] LabelMap by_tls_version(const std::array<std::uint64_t, kTlsVersionCount>& counts) {
  LabelMap map{.label = "version", .samples = {}};
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] != 0 || i == kTls12 || i == kTls13) {
      map.samples.emplace_back(kTlsVersions[i], counts[i]);
    }
  }
  return map;
}

/// Only those that were ever counted, as derper does.
[[nodiscard]] LabelMap round_trips(const std::array<std::uint64_t, kTcpRttCount>& counts) {
  LabelMap map{.label = "le", .samples = {}};
  for (std::size_t i = 0; i < counts.size(); ++i)
    if (counts[i] != 0) map.samples.emplace_back(label(static_cast<TcpRtt>(i)), counts[i]);
  std::ranges::sort(map.samples);
  return map;
}

template <std::size_t N>
[[nodiscard]] HistogramValues histogram(const std::array<std::uint64_t, N>& bounds,
                                        const HistogramTotals<N>& totals) {
  return {.bounds = bounds,
          .buckets = {totals.buckets.begin(), totals.buckets.end()},
          .sum = totals.sum};
}

[[nodiscard]] double average_queue_ms(const Snapshot& snapshot) {
  if (snapshot.average_queue_count == 0) return 0;
  return snapshot.average_queue_ms_sum / static_cast<double>(snapshot.average_queue_count);
}

[[nodiscard]] Variable derp_group(const Snapshot& s) {
  return {
      .key = "derp",
      .value = Group{{
          {"accepts", Integer{s.accepts}},
          {"average_queue_duration_ms", Computed{average_queue_ms(s)}},
          {"bytes_received", Integer{sum_of(s.received, &PacketTotals::bytes)}},
          {"bytes_sent", Integer{sum_of(s.sent, &PacketTotals::bytes)}},
          {"counter_buffered_write_frames", histogram(kWriteFrameBounds, s.buffered_write_frames)},
          {"counter_mesh_update_batch_size", histogram(kMeshBatchBounds, s.mesh_update_batch_size)},
          {"counter_mesh_update_loop_count", histogram(kMeshLoopBounds, s.mesh_update_loop_count)},
          {"counter_packets_received_kind", by_kind(s.received)},
          {"counter_tcp_rtt", round_trips(s.tcp_rtt)},
          {"counter_total_dup_client_conns", Integer{s.total_dup_client_conns}},
          {"gauge_clients_local", Integer{s.clients_local}},
          {"gauge_clients_remote", Integer{s.clients_remote}},
          {"gauge_clients_total", Integer{s.clients_local + s.clients_remote}},
          {"gauge_current_connections", Integer{s.current_connections}},
          {"gauge_current_dup_client_conns", Integer{s.current_dup_client_conns}},
          {"gauge_current_dup_client_keys", Integer{s.current_dup_client_keys}},
          {"gauge_current_file_descriptors", Integer{s.process.open_fds}},
          {"gauge_current_home_connections", Integer{s.current_home_connections}},
          {"gauge_current_notideal_connections", Integer{s.current_notideal_connections}},
          {"gauge_memstats_sys0", Integer{s.memory_at_start_bytes}},
          {"gauge_watchers", Integer{s.watchers}},
          {"got_ping", Integer{s.got_ping}},
          {"home_moves_in", Integer{s.home_moves_in}},
          {"home_moves_out", Integer{s.home_moves_out}},
          {"multiforwarder_created", Integer{s.multiforwarder_created}},
          {"multiforwarder_deleted", Integer{s.multiforwarder_deleted}},
          {"packet_forwarder_delete_other_value", Integer{s.packet_forwarder_delete_other_value}},
          {"packets_forwarded_in", Integer{s.packets_forwarded_in}},
          {"packets_forwarded_out", Integer{s.packets_forwarded_out}},
          {"packets_received", Integer{sum_of(s.received, &PacketTotals::packets)}},
          {"packets_sent", Integer{sum_of(s.sent, &PacketTotals::packets)}},
          {"peer_gone_disconnected_frames", Integer{s.peer_gone_disconnected}},
          {"peer_gone_not_here_frames", Integer{s.peer_gone_not_here}},
          {"sclient_write_timeouts", Integer{s.write_timeouts}},
          {"sent_pong", Integer{s.sent_pong}},
          {"unknown_frames", Integer{0}},  // Never counted by derper either.
          {"version", Text{s.version}},
      }}};
}

/// What derper publishes only with -rate-config.
void add_rate_limit(Variable& derp, const Snapshot& s) {
  auto& members = std::get<Group>(derp.value).members;
  members.push_back({"rate_limit_per_client_bytes_per_second",
                     Computed{static_cast<double>(s.rate_limit_bytes_per_second)}});
  members.push_back({"rate_limit_per_client_burst_bytes",
                     Computed{static_cast<double>(s.rate_limit_burst_bytes)}});
  members.push_back({"rate_limit_per_client_waited", Integer{s.rate_limit_waits}});
}

/// CONNECT requests by what came of them.
[[nodiscard]] MultiLabelMap connects(const Snapshot& s) {
  constexpr std::array<std::string_view, kConnectResultCount> kResults = {"busy", "failed",
                                                                          "opened", "refused"};
  MultiLabelMap map;
  for (std::size_t i = 0; i < kConnectResultCount; ++i)
    map.samples.emplace_back(fmt::format("result=\"{}\"", kResults[i]), s.connect_requests[i]);
  return map;
}

/// Counters that derper does not have: what our bounds did.
[[nodiscard]] Variable detour_group(const Snapshot& s) {
  return {.key = "detour",
          .value = Group{{
              {"accept_paused_total", Integer{s.accept_paused},
               "Times that accepting paused because file descriptors ran out"},
              {"connect_requests_total", connects(s),
               "CONNECT requests with -ace by what came of them"},
              {"connections_refused_total",
               MultiLabelMap{{{"reason=\"address\"", s.refused_for_address},
                              {"reason=\"total\"", s.refused_for_total}}},
               "Connections closed at once because there were as many as the limits allow"},
              {"control_frames_dropped_total", Integer{s.control_frames_dropped},
               "Control frames dropped because a client's queue for them was full"},
              {"gauge_connect_tunnels", Integer{s.connect_tunnels},
               "Tunnels by CONNECT (-ace) that are open now"},
              {"gauge_mesh_links", Integer{s.mesh_links_configured},
               "Mesh peers to keep a link to, without this relay itself"},
              {"gauge_mesh_links_up", Integer{s.mesh_links_up},
               "Mesh peers whose clients are known now"},
              {"handshake_failures_total", Integer{s.handshake_failures},
               "Connections ended before login by something other than time"},
              {"handshake_timeouts_total", Integer{s.handshake_timeouts},
               "Connections ended because TLS, HTTP and DERP login together took too long"},
              {"http_head_too_large_total", Integer{s.http_head_too_large},
               "Requests refused because their head was too large"},
              {"logins_total", Integer{s.logins}, "Logins completed"},
              {"mesh_link_failures_total", Integer{s.mesh_link_failures},
               "Links to mesh peers that ended or did not come about"},
              {"mesh_watchers_ended_total", Integer{s.mesh_watchers_ended},
               "Mesh peers that were closed because they fell too far behind"},
          }}};
}

/// How the certificates are doing, by name.
void add_certificates(Variable& detour, const std::vector<CertificateTotals>& certificates) {
  const auto by_name = [&certificates](auto value_of) {
    LabelMap map{.label = "name", .samples = {}};
    for (const auto& one : certificates)
      map.samples.emplace_back(one.name, std::invoke(value_of, one));
    return map;
  };
  std::string last_error;
  for (const auto& one : certificates)
    if (!one.last_error.empty()) last_error = one.last_error;

  auto& members = std::get<Group>(detour.value).members;
  members.push_back({"certificate_last_error", Text{std::move(last_error)}});
  members.push_back({"counter_certificate_renewal_failures_total",
                     by_name(&CertificateTotals::failures),
                     "Attempts to replace a certificate that failed"});
  members.push_back({"counter_certificate_renewals_total", by_name(&CertificateTotals::renewals),
                     "Attempts to replace a certificate: orders, or files that were read again"});
  members.push_back({"gauge_certificate_expires_in_seconds",
                     by_name(&CertificateTotals::expires_in_seconds),
                     "Seconds until the certificate expires, 0 when it has or when there is none"});
  members.push_back({"gauge_certificate_last_renewal_failed", by_name([](const auto& one) {
                       return std::uint64_t{!one.last_error.empty()};
                     }),
                     "Whether the last attempt to replace the certificate failed"});
}

/// What happened to logins and connected clients that were checked.
void add_admission(Variable& detour, const Snapshot::Admission& a) {
  constexpr std::array<std::string_view, 2> kSources = {"tailscaled", "url"};
  constexpr std::array<std::string_view, 4> kAnswers = {"allowed", "denied", "failed",
                                                        "unreachable"};
  constexpr std::array<std::string_view, 5> kResults = {"allowed", "failed_open", "denied",
                                                        "undecided", "busy"};
  MultiLabelMap answers;
  for (std::size_t source = 0; source < kSources.size(); ++source) {
    for (std::size_t answer = 0; answer < kAnswers.size(); ++answer)
      answers.samples.emplace_back(
          fmt::format("source=\"{}\",answer=\"{}\"", kSources[source], kAnswers[answer]),
          a.answers[source][answer]);
  }
  MultiLabelMap logins;
  for (std::size_t i = 0; i < kResults.size(); ++i)
    logins.samples.emplace_back(fmt::format("result=\"{}\"", kResults[i]), a.logins[i]);

  auto& members = std::get<Group>(detour.value).members;
  members.push_back({"admission_answers_total", std::move(answers),
                     "Answers of the sources that say who may log in"});
  members.push_back({"admission_cache_hits_total", Integer{a.cache_hits},
                     "Logins decided by an answer that was given before"});
  members.push_back({"admission_cut_off_total", Integer{a.cut_offs},
                     "Connected clients closed because they may not stay"});
  members.push_back({"admission_logins_total", std::move(logins),
                     "Logins that were checked, by what came of it"});
  members.push_back({"admission_query_milliseconds", histogram(kQueryBounds, a.query_milliseconds),
                     "Time that sources take to answer"});
  members.push_back({"gauge_admission_allow_file_keys", Integer{a.allow_list_keys},
                     "Node keys in the allow file"});
  members.push_back({"gauge_admission_allow_file_stale", Integer{a.allow_list_stale},
                     "1 while the allow file is unusable and its content from before holds"});
  members.push_back(
      {"gauge_admission_queries", Integer{a.in_flight}, "Questions to sources under way"});
  members.push_back(
      {"gauge_admission_waiting", Integer{a.waiting}, "Logins that wait for an answer"});
}

[[nodiscard]] Variable stun_group(const Snapshot& s) {
  return {
      .key = "stun",
      .value = Group{{
          {"counter_addrfamily",
           LabelMap{.label = "family", .samples = {{"ipv4", s.stun_ipv4}, {"ipv6", s.stun_ipv6}}}},
          {"counter_no_local_addr", Integer{s.stun_no_local_addr}},
          {"counter_requests", LabelMap{.label = "disposition",
                                        .samples = {{"not_stun", s.stun_not_stun},
                                                    {"read_error", s.stun_read_error},
                                                    {"success", s.stun_success},
                                                    {"write_error", s.stun_write_error}}}},
      }}};
}

/// Everything that derper publishes, with zeros for what is not built yet, and our own.
[[nodiscard]] std::vector<Variable> published(const Snapshot& s) {
  std::vector<Variable> variables = {
      {"counter_bootstrap_dns_published_hits", Integer{s.bootstrap_dns_published_hits}},
      {"counter_bootstrap_dns_published_misses", Integer{s.bootstrap_dns_published_misses}},
      {"counter_bootstrap_dns_queried_domains", Integer{s.bootstrap_dns_queried_domains}},
      {"counter_bootstrap_dns_requests", Integer{s.bootstrap_dns_requests}},
      {"counter_bootstrap_dns_unpublished_hits", Integer{s.bootstrap_dns_unpublished_hits}},
      {"counter_bootstrap_dns_unpublished_misses", Integer{s.bootstrap_dns_unpublished_misses}},
      {"counter_bootstrap_dns_unpublished_percent_misses",
       Integer{s.bootstrap_dns_unpublished_percent_misses}},
      {"counter_uptime_sec", Integer{s.uptime_seconds}},
      derp_group(s),
      {"derp_bytes_dropped", drops(s, &PacketTotals::bytes),
       "DERP bytes dropped by reason and by kind"},
      {"derp_packets_dropped", drops(s, &PacketTotals::packets),
       "DERP packets dropped by reason and by kind"},
      {"derp_websocket_accepts", Integer{s.websocket_accepts}},
      {"derper_tls_request_version", by_tls_version(s.tls_requests)},
      detour_group(s),
      {"gauge_derper_tls_active_version", by_tls_version(s.tls_active)},
      {"process_start_unix_time",
       Computed{static_cast<double>(static_cast<std::int64_t>(s.process.start_unix_seconds))}},
      stun_group(s),
      {"version", Info{{{"version", s.version}, {"binary", s.binary}}}},
  };
  if (!s.certificates.empty()) {
    const auto detour = std::ranges::find(variables, "detour", &Variable::key);
    add_certificates(*detour, s.certificates);
  }
  if (s.admission) {
    const auto detour = std::ranges::find(variables, "detour", &Variable::key);
    add_admission(*detour, *s.admission);
  }
  if (s.has_rate_config) {
    const auto derp = std::ranges::find(variables, "derp", &Variable::key);
    add_rate_limit(*derp, s);
  }
  if (s.process.boot_unix_seconds != 0) {
    variables.push_back(
        {"node_boot_time_seconds", Computed{static_cast<double>(s.process.boot_unix_seconds)}});
  }
  if (s.has_tls_listener) {
    variables.push_back(
        {"tls_listener", Group{{{"counter_accepted_connections", Integer{s.tcp_accepted}},
                                {"counter_rejected_connections", Integer{s.tcp_rejected}}}}});
  }
  return variables;
}

/// The metrics that Prometheus clients of every language give about their process.
[[nodiscard]] std::string format_process(const ProcessUsage& process) {
  struct Native {
    std::string_view name;
    std::string_view type;
    std::string_view help;
    double value;
  };
  const Native natives[] = {
      {"process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.",
       process.cpu_seconds},
      {"process_max_fds", "gauge", "Maximum number of open file descriptors.",
       static_cast<double>(process.max_fds)},
      {"process_network_receive_bytes_total", "counter",
       "Number of bytes received by the process over the network.",
       static_cast<double>(process.network_received_bytes)},
      {"process_network_transmit_bytes_total", "counter",
       "Number of bytes sent by the process over the network.",
       static_cast<double>(process.network_sent_bytes)},
      {"process_open_fds", "gauge", "Number of open file descriptors.",
       static_cast<double>(process.open_fds)},
      {"process_resident_memory_bytes", "gauge", "Resident memory size in bytes.",
       static_cast<double>(process.resident_bytes)},
      {"process_start_time_seconds", "gauge",
       "Start time of the process since unix epoch in seconds.", process.start_unix_seconds},
      {"process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.",
       static_cast<double>(process.virtual_bytes)},
      {"process_virtual_memory_max_bytes", "gauge",
       "Maximum amount of virtual memory available in bytes.",
       static_cast<double>(process.virtual_max_bytes)},
  };
  std::string out;
  for (const auto& [name, type, help, value] : natives) {
    out += fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n{0} {3}\n", name, help, type,
                       format_number(value));
  }
  return out;
}

template <std::size_t N>
void add(HistogramTotals<N>& totals, const Histogram<N>& histogram) {
  for (std::size_t i = 0; i < totals.buckets.size(); ++i) totals.buckets[i] += histogram.bucket(i);
  totals.sum += histogram.sum();
}

void add(PacketTotals& totals, const PacketsAndBytes& counters) {
  totals.packets += counters.packets.get();
  totals.bytes += counters.bytes.get();
}

}  // namespace

Snapshot::Admission read_admission(const AdmissionCounters& counters) {
  Snapshot::Admission read;
  for (std::size_t source = 0; source < read.answers.size(); ++source) {
    for (std::size_t answer = 0; answer < read.answers[source].size(); ++answer)
      read.answers[source][answer] = counters.answers[source][answer].get();
  }
  for (std::size_t i = 0; i < read.logins.size(); ++i) read.logins[i] = counters.logins[i].get();
  read.cache_hits = counters.cache_hits.get();
  read.cut_offs = counters.cut_offs.get();
  read.waiting = counters.waiting.get();
  read.in_flight = counters.in_flight.get();
  read.allow_list_keys = counters.allow_list_keys.get();
  read.allow_list_stale = counters.allow_list_stale.get();
  for (std::size_t i = 0; i < read.query_milliseconds.buckets.size(); ++i)
    read.query_milliseconds.buckets[i] = counters.query_milliseconds.bucket(i);
  read.query_milliseconds.sum = counters.query_milliseconds.sum();
  return read;
}

void accumulate(Snapshot& snapshot, const WorkerCounters& worker) {
  static_assert(std::tuple_size_v<decltype(worker.tls_requests)> == kTlsVersionCount);

  for (const PacketKind kind : kPacketKinds) {
    add(snapshot.received[index(kind)], worker.received[index(kind)]);
    add(snapshot.sent[index(kind)], worker.sent[index(kind)]);
    for (const DropReason reason : kDropReasons) {
      add(snapshot.dropped[index(reason)][index(kind)], worker.dropped[index(reason)][index(kind)]);
    }
  }
  add(snapshot.buffered_write_frames, worker.buffered_write_frames);
  add(snapshot.mesh_update_batch_size, worker.mesh_update_batch_size);
  add(snapshot.mesh_update_loop_count, worker.mesh_update_loop_count);

  const double queue_ms = worker.average_queue_duration_ms.load(std::memory_order_relaxed);
  if (queue_ms > 0) {
    snapshot.average_queue_ms_sum += queue_ms;
    ++snapshot.average_queue_count;
  }
  for (std::size_t i = 0; i < kTcpRttCount; ++i) snapshot.tcp_rtt[i] += worker.tcp_rtt[i].get();
  for (std::size_t i = 0; i < kConnectResultCount; ++i)
    snapshot.connect_requests[i] += worker.connect_requests[i].get();
  for (std::size_t i = 0; i < kTlsVersionCount; ++i) {
    snapshot.tls_requests[i] += worker.tls_requests[i].get();
    snapshot.tls_active[i] += worker.tls_active[i].get();
  }

  struct Field {
    std::uint64_t Snapshot::* to;
    Counter WorkerCounters::* from;
  };
  constexpr Field kFields[] = {
      {&Snapshot::accepts, &WorkerCounters::accepts},
      {&Snapshot::websocket_accepts, &WorkerCounters::websocket_accepts},
      {&Snapshot::got_ping, &WorkerCounters::got_ping},
      {&Snapshot::sent_pong, &WorkerCounters::sent_pong},
      {&Snapshot::peer_gone_disconnected, &WorkerCounters::peer_gone_disconnected},
      {&Snapshot::peer_gone_not_here, &WorkerCounters::peer_gone_not_here},
      {&Snapshot::home_moves_in, &WorkerCounters::home_moves_in},
      {&Snapshot::home_moves_out, &WorkerCounters::home_moves_out},
      {&Snapshot::write_timeouts, &WorkerCounters::write_timeouts},
      {&Snapshot::current_connections, &WorkerCounters::current_connections},
      {&Snapshot::current_home_connections, &WorkerCounters::current_home_connections},
      {&Snapshot::current_notideal_connections, &WorkerCounters::current_notideal_connections},
      {&Snapshot::tcp_accepted, &WorkerCounters::tcp_accepted},
      {&Snapshot::tcp_rejected, &WorkerCounters::tcp_rejected},
      {&Snapshot::stun_success, &WorkerCounters::stun_success},
      {&Snapshot::stun_not_stun, &WorkerCounters::stun_not_stun},
      {&Snapshot::stun_read_error, &WorkerCounters::stun_read_error},
      {&Snapshot::stun_write_error, &WorkerCounters::stun_write_error},
      {&Snapshot::stun_no_local_addr, &WorkerCounters::stun_no_local_addr},
      {&Snapshot::stun_ipv4, &WorkerCounters::stun_ipv4},
      {&Snapshot::stun_ipv6, &WorkerCounters::stun_ipv6},
      {&Snapshot::handshake_timeouts, &WorkerCounters::handshake_timeouts},
      {&Snapshot::handshake_failures, &WorkerCounters::handshake_failures},
      {&Snapshot::http_head_too_large, &WorkerCounters::http_head_too_large},
      {&Snapshot::accept_paused, &WorkerCounters::accept_paused},
      {&Snapshot::control_frames_dropped, &WorkerCounters::control_frames_dropped},
      {&Snapshot::logins, &WorkerCounters::logins},
      {&Snapshot::connect_tunnels, &WorkerCounters::connect_tunnels},
      {&Snapshot::refused_for_total, &WorkerCounters::refused_for_total},
      {&Snapshot::refused_for_address, &WorkerCounters::refused_for_address},
      {&Snapshot::rate_limit_waits, &WorkerCounters::rate_limit_waits},
      {&Snapshot::packets_forwarded_in, &WorkerCounters::packets_forwarded_in},
      {&Snapshot::packets_forwarded_out, &WorkerCounters::packets_forwarded_out},
      {&Snapshot::mesh_links_up, &WorkerCounters::mesh_links_up},
      {&Snapshot::mesh_link_failures, &WorkerCounters::mesh_link_failures},
      {&Snapshot::mesh_watchers_ended, &WorkerCounters::mesh_watchers_ended},
  };
  for (const auto& [to, from] : kFields) snapshot.*to += (worker.*from).get();
}

std::string format_prometheus(const Snapshot& snapshot) {
  return format_process(snapshot.process) + write_prometheus(published(snapshot));
}

std::string format_expvar_json(const Snapshot& snapshot) {
  return write_json(published(snapshot));
}

}  // namespace detour::metrics
