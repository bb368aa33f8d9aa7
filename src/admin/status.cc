#include "admin/status.h"

#include <arpa/inet.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <map>
#include <span>
#include <unordered_map>
#include <utility>

#include "admin/query.h"
#include "admin/status_json.h"
#include "base/duration.h"

namespace detour::admin {
namespace {

using nlohmann::ordered_json;

constexpr std::array<std::pair<std::string_view, ClientOrder>, 10> kOrders = {{
    {"rate", ClientOrder::kRate},
    {"received", ClientOrder::kReceived},
    {"sent", ClientOrder::kSent},
    {"drops", ClientOrder::kDrops},
    {"waiting", ClientOrder::kWaiting},
    {"rtt", ClientOrder::kRtt},
    {"connected", ClientOrder::kConnected},
    {"name", ClientOrder::kName},
    {"key", ClientOrder::kKey},
    {"address", ClientOrder::kAddress},
}};

double seconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

/// Two places are enough for everything that is measured here.
double rounded(double value) {
  return std::round(value * 100) / 100;
}

ordered_json number_or_null(const std::optional<double>& value) {
  return value ? ordered_json(rounded(*value)) : ordered_json(nullptr);
}

std::uint64_t drops_of(const ClientStatus& client) {
  return client.received.unknown_dest + client.evicted_packets;
}

std::chrono::microseconds rtt_of(const ClientStatus& client) {
  return client.tcp ? client.tcp->round_trip_time : std::chrono::microseconds(0);
}

/// Whether `a` stands before `b`.
bool comes_before(ClientOrder order, const ClientStatus& a, const ClientStatus& b) {
  const auto by = [&](const auto& first, const auto& second) {
    if (first != second) return first < second;
    return a.identity.id < b.identity.id;
  };
  switch (order) {
    case ClientOrder::kRate:
      return by(b.bytes_per_second(), a.bytes_per_second());
    case ClientOrder::kReceived:
      return by(b.received.bytes, a.received.bytes);
    case ClientOrder::kSent:
      return by(b.sent_bytes, a.sent_bytes);
    case ClientOrder::kDrops:
      return by(drops_of(b), drops_of(a));
    case ClientOrder::kWaiting:
      return by(b.waiting_bytes, a.waiting_bytes);
    case ClientOrder::kRtt:
      return by(rtt_of(b), rtt_of(a));
    case ClientOrder::kConnected:
      return by(b.identity.connected_at, a.identity.connected_at);
    case ClientOrder::kName:
      if (a.name.empty() != b.name.empty()) return b.name.empty();
      if (a.name != b.name) return a.name < b.name;
      return by(a.identity.key, b.identity.key);
    case ClientOrder::kKey:
      return by(a.identity.key, b.identity.key);
    case ClientOrder::kAddress:
      return by(std::pair(a.identity.address, a.identity.port),
                std::pair(b.identity.address, b.identity.port));
  }
  return false;
}

ordered_json json_of(const metrics::PacketTotals& totals) {
  return {{"packets", totals.packets}, {"bytes", totals.bytes}};
}

ordered_json json_of(const std::array<metrics::PacketTotals, metrics::kPacketKindCount>& kinds) {
  ordered_json object;
  for (std::size_t kind = 0; kind < kinds.size(); ++kind)
    object[std::string(metrics::label(metrics::PacketKind{static_cast<std::uint8_t>(kind)}))] =
        json_of(kinds[kind]);
  return object;
}

ordered_json json_of_drops(const metrics::Snapshot& totals) {
  ordered_json object;
  for (std::size_t i = 0; i < metrics::kDropReasonCount; ++i) {
    std::uint64_t packets = 0;
    for (const auto& kind : totals.dropped[i]) packets += kind.packets;
    object[std::string(metrics::label(metrics::DropReason{static_cast<std::uint8_t>(i)}))] =
        packets;
  }
  return object;
}

ordered_json json_of_totals(const RelayStatus& status) {
  const metrics::Snapshot& totals = status.totals;
  return {{"clients", status.clients.size()},
          {"keys", totals.clients_local},
          {"remoteKeys", totals.clients_remote},
          {"homeClients", totals.current_home_connections},
          {"connections", status.connections},
          {"logins", totals.logins},
          {"loginsFailed", totals.handshake_failures},
          {"receivedPerSecond", number_or_null(status.received_per_second)},
          {"sentPerSecond", number_or_null(status.sent_per_second)},
          {"received", json_of(totals.received)},
          {"sent", json_of(totals.sent)},
          {"dropped", json_of_drops(totals)},
          {"forwardedIn", totals.packets_forwarded_in},
          {"forwardedOut", totals.packets_forwarded_out},
          {"stunAnswered", totals.stun_success},
          {"cpuSeconds", rounded(totals.process.cpu_seconds)},
          {"memoryBytes", totals.process.resident_bytes},
          {"openFiles", totals.process.open_fds},
          {"openFilesMax", totals.process.max_fds}};
}

ordered_json json_of(const RelayStatus& status, const ClientStatus& client) {
  const auto& identity = client.identity;
  ordered_json flags = ordered_json::array();
  const auto flag = [&flags](bool is_set, std::string_view name) {
    if (is_set) flags.push_back(name);
  };
  flag(client.is_home, "home");
  flag(identity.is_mesh_peer, "mesh");
  flag(identity.is_prober, "prober");
  flag(identity.is_not_ideal, "notIdeal");
  flag(client.is_duplicate, "duplicate");
  flag(client.is_duplicate && !client.is_active, "inactive");
  flag(client.is_websocket, "websocket");
  ordered_json object = {{"id", identity.id},
                         {"key", identity.key.typed()},
                         {"shortKey", identity.key.short_text()},
                         {"name", client.name},
                         {"app", identity.app_name},
                         {"address", address_text(identity)},
                         {"connectedSeconds", rounded(seconds(status.now - identity.connected_at))},
                         {"flags", std::move(flags)},
                         {"version", identity.version},
                         {"tls", client.tls},
                         {"worker", client.worker},
                         {"receivedPackets", client.received.packets},
                         {"receivedBytes", client.received.bytes},
                         {"receivedPerSecond", number_or_null(client.received_per_second)},
                         {"sentPackets", client.sent_packets},
                         {"sentBytes", client.sent_bytes},
                         {"sentPerSecond", number_or_null(client.sent_per_second)},
                         {"dropped",
                          {{identity.is_mesh_peer ? "unknown_dest_on_fwd" : "unknown_dest",
                            client.received.unknown_dest},
                           {"queue_head", client.evicted_packets}}},
                         {"waiting",
                          {{"data", client.waiting_data},
                           {"disco", client.waiting_disco},
                           {"control", client.waiting_control},
                           {"bytes", client.waiting_bytes}}}};
  if (!client.tcp) {
    object["tcp"] = nullptr;
    return object;
  }
  object["tcp"] = {{"rttMs", rounded(in_milliseconds(client.tcp->round_trip_time))},
                   {"rttVariationMs", rounded(in_milliseconds(client.tcp->variation))},
                   {"congestionWindow", client.tcp->congestion_window},
                   {"retransmissions", client.tcp->retransmissions},
                   {"sentBytes", client.tcp->sent_bytes},
                   {"receivedBytes", client.tcp->received_bytes}};
  return object;
}

ordered_json json_of(const PairStatus& pair) {
  return {{"a", pair.a.typed()},
          {"b", pair.b.typed()},
          {"nameA", pair.name_a},
          {"nameB", pair.name_b},
          {"bytesFromA", pair.bytes_from_a},
          {"bytesFromB", pair.bytes_from_b},
          {"packets", pair.packets}};
}

ordered_json json_of(const std::vector<ListeningState>& listening) {
  ordered_json list = ordered_json::array();
  for (const auto& one : listening) list.push_back({{"what", one.what}, {"address", one.address}});
  return list;
}

ordered_json json_of(const MeshStatus& mesh) {
  return {{"name", mesh.name},
          {"up", mesh.is_up},
          {"address", mesh.address},
          {"key", mesh.key},
          {"sentPackets", mesh.sent_packets},
          {"sentBytes", mesh.sent_bytes},
          {"dropped", mesh.evicted_packets},
          {"lastFailure", mesh.last_failure}};
}

ordered_json json_of(const RelayStatus& status, const CertificateState& certificate) {
  constexpr double kDay = 86'400;
  const auto left = std::chrono::duration<double>(certificate.not_after - status.at).count();
  const auto whole =
      std::chrono::duration<double>(certificate.not_after - certificate.not_before).count();
  return {{"name", certificate.name},
          {"serving", certificate.is_serving},
          {"notAfter", certificate.is_serving ? ordered_json(time_text(certificate.not_after))
                                              : ordered_json(nullptr)},
          {"daysLeft", certificate.is_serving ? ordered_json(std::max(0.0, rounded(left / kDay)))
                                              : ordered_json(nullptr)},
          {"lifetimeDays",
           certificate.is_serving ? ordered_json(rounded(whole / kDay)) : ordered_json(nullptr)},
          {"renewals", certificate.renewals},
          {"failures", certificate.failures},
          {"lastError", certificate.last_error}};
}

ordered_json json_of(const AdmissionState& admission, const metrics::Snapshot& totals) {
  ordered_json sources = ordered_json::array();
  for (const auto& source : admission.sources)
    sources.push_back({{"kind", source.kind},
                       {"where", source.where},
                       {"asked", source.was_asked},
                       {"failing", source.is_failing},
                       {"lastError", source.last_error}});
  ordered_json object = {{"checking", admission.is_checking}, {"sources", std::move(sources)}};
  object["allowFile"] = admission.allow_file.empty()
                            ? ordered_json(nullptr)
                            : ordered_json{{"path", admission.allow_file},
                                           {"keys", admission.allow_file_keys},
                                           {"stale", admission.allow_file_is_stale}};
  if (totals.admission) {
    const auto& counted = *totals.admission;
    object["waiting"] = counted.waiting;
    object["cutOffs"] = counted.cut_offs;
    constexpr std::array<std::string_view, 5> kResults = {"allowed", "failedOpen", "denied",
                                                          "undecided", "busy"};
    for (std::size_t i = 0; i < kResults.size(); ++i)
      object["logins"][std::string(kResults[i])] = counted.logins[i];
  }
  return object;
}

}  // namespace

std::string ip_text(const std::array<std::uint8_t, derp::kIpSize>& ip) {
  constexpr std::array<std::uint8_t, 12> kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (std::equal(kMapped.begin(), kMapped.end(), ip.begin()))
    return inet_ntop(AF_INET, ip.data() + kMapped.size(), text.data(), text.size());
  return inet_ntop(AF_INET6, ip.data(), text.data(), text.size());
}

std::string address_text(const relay::Client::Identity& identity) {
  const std::string ip = ip_text(identity.address);
  return ip.find(':') == std::string::npos ? fmt::format("{}:{}", ip, identity.port)
                                           : fmt::format("[{}]:{}", ip, identity.port);
}

std::string time_text(WallTime time) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(time)));
}

std::vector<PairStatus> join_pairs(const std::vector<relay::PairSampler::Report>& reports,
                                   std::size_t count_max) {
  std::map<std::pair<crypto::NodePublic, crypto::NodePublic>, PairStatus> joined;
  for (const auto& report : reports) {
    for (const auto& pair : report.pairs) {
      const bool from_a = pair.source <= pair.destination;
      const auto& a = from_a ? pair.source : pair.destination;
      const auto& b = from_a ? pair.destination : pair.source;
      PairStatus& status = joined[{a, b}];
      status.a = a;
      status.b = b;
      (from_a ? status.bytes_from_a : status.bytes_from_b) += pair.bytes;
      status.packets += pair.packets;
    }
  }
  std::vector<PairStatus> pairs;
  pairs.reserve(joined.size());
  for (auto& [keys, pair] : joined) pairs.push_back(std::move(pair));
  const std::size_t count = std::min(count_max, pairs.size());
  std::ranges::partial_sort(pairs, pairs.begin() + static_cast<std::ptrdiff_t>(count),
                            std::ranges::greater(), &PairStatus::bytes);
  pairs.resize(count);
  return pairs;
}

void add_rates(RelayStatus& status, const RelayStatus& before) {
  constexpr double kShortest = 0.1;
  const double passed = seconds(status.now - before.now);
  if (passed < kShortest) return;
  const auto rate = [passed](std::uint64_t then, std::uint64_t now) {
    return now < then ? 0.0 : static_cast<double>(now - then) / passed;
  };
  std::unordered_map<relay::ClientId, const ClientStatus*> known;
  known.reserve(before.clients.size());
  for (const auto& client : before.clients) known.emplace(client.identity.id, &client);
  for (ClientStatus& client : status.clients) {
    const auto found = known.find(client.identity.id);
    // Who came meanwhile has sent all of it since.
    const bool is_known = found != known.end();
    client.received_per_second =
        rate(is_known ? found->second->received.bytes : 0, client.received.bytes);
    client.sent_per_second = rate(is_known ? found->second->sent_bytes : 0, client.sent_bytes);
  }
  const auto sum = [](const auto& kinds) {
    std::uint64_t bytes = 0;
    for (const auto& kind : kinds) bytes += kind.bytes;
    return bytes;
  };
  status.received_per_second = rate(sum(before.totals.received), sum(status.totals.received));
  status.sent_per_second = rate(sum(before.totals.sent), sum(status.totals.sent));
}

std::optional<ClientOrder> parse_client_order(std::string_view text) {
  const auto* const found =
      std::ranges::find(kOrders, text, &std::pair<std::string_view, ClientOrder>::first);
  if (found == kOrders.end()) return std::nullopt;
  return found->second;
}

std::optional<ClientSelection> parse_client_selection(std::string_view query,
                                                      std::string& problem) {
  ClientSelection selection;
  if (const auto sort = query_value(query, "sort")) {
    const auto order = parse_client_order(*sort);
    if (!order) {
      problem = fmt::format("sort={}: there is no such order; use one of {}", *sort, kClientOrders);
      return std::nullopt;
    }
    selection.order = *order;
  }
  if (const auto limit = query_value(query, "limit")) {
    const char* const end = limit->data() + limit->size();
    const auto [parsed_to, error] = std::from_chars(limit->data(), end, selection.limit);
    if (error != std::errc() || parsed_to != end) {
      problem = fmt::format("limit={}: a number of clients is needed", *limit);
      return std::nullopt;
    }
    selection.limit = std::min(selection.limit, kClientsListedMax);
  }
  return selection;
}

std::vector<const ClientStatus*> select_clients(const RelayStatus& status,
                                                const ClientSelection& selection) {
  std::vector<const ClientStatus*> clients;
  clients.reserve(status.clients.size());
  for (const auto& client : status.clients) clients.push_back(&client);
  const std::size_t count = std::min(selection.limit, clients.size());
  std::ranges::partial_sort(clients, clients.begin() + static_cast<std::ptrdiff_t>(count),
                            [&selection](const ClientStatus* a, const ClientStatus* b) {
                              return comes_before(selection.order, *a, *b);
                            });
  clients.resize(count);
  return clients;
}

ordered_json status_object(const RelayStatus& status,
                           const std::vector<const ClientStatus*>& clients, std::size_t pairs_max) {
  ordered_json whole = {
      {"version", status.version},
      {"at", time_text(status.at)},
      {"state", status.state},
      {"drainLeftSeconds", status.drain_left ? ordered_json(rounded(seconds(*status.drain_left)))
                                             : ordered_json(nullptr)},
      {"unready", status.unready},
      {"uptimeSeconds", status.totals.uptime_seconds},
      {"publicKey", status.public_key},
      {"hostname", status.hostname},
      {"listening", json_of(status.listening)},
      {"machine", status.machine},
      {"workers", status.workers},
      {"silentWorkers", status.silent_workers},
      {"totals", json_of_totals(status)}};
  auto list = [&whole](std::string_view name, const auto& items, const auto& make) {
    ordered_json array = ordered_json::array();
    for (const auto& item : items) array.push_back(make(item));
    whole[std::string(name)] = std::move(array);
  };
  list("clients", clients, [&](const ClientStatus* client) { return json_of(status, *client); });
  list("pairs", std::span(status.pairs).first(std::min(pairs_max, status.pairs.size())),
       [](const PairStatus& pair) { return json_of(pair); });
  whole["pairsSeconds"] = rounded(seconds(status.pairs_cover));
  list("mesh", status.mesh, [](const MeshStatus& mesh) { return json_of(mesh); });
  list("certificates", status.certificates,
       [&](const CertificateState& certificate) { return json_of(status, certificate); });
  whole["admission"] = json_of(status.admission, status.totals);
  return whole;
}

std::string json_text(const ordered_json& object) {
  return object.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

std::string format_status_json(const RelayStatus& status, const ClientSelection& selection) {
  return json_text(status_object(status, select_clients(status, selection), kPairsShownMax));
}

}  // namespace detour::admin
