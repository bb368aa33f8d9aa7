#include "admin/page_data.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "admin/query.h"
#include "admin/status_json.h"

namespace detour::admin {
namespace {

using nlohmann::ordered_json;

/// What is told as "now" covers at least this much time, so that it does not flicker.
constexpr Duration kNowCovers = std::chrono::seconds(4);
/// Drops are rare: their rate by reason is that of a minute.
constexpr Duration kDropsCover = std::chrono::seconds(60);
constexpr std::size_t kRunMax = 64;

/// For charts and tables a number needs three digits at most behind the point.
double rounded(double value) {
  return std::round(value * 1000) / 1000;
}

ordered_json json_of(const Rates& rates) {
  return {{"receivedBytes", rounded(rates.received_bytes)},
          {"sentBytes", rounded(rates.sent_bytes)},
          {"receivedPackets", rounded(rates.received_packets)},
          {"sentPackets", rounded(rates.sent_packets)},
          {"dropped", rounded(rates.dropped)},
          {"stunAnswers", rounded(rates.stun_answers)},
          {"cpu", rounded(rates.cpu)}};
}

ordered_json json_of_drops(const Rates& rates) {
  ordered_json object;
  for (std::size_t i = 0; i < rates.dropped_by_reason.size(); ++i)
    object[std::string(metrics::label(metrics::DropReason{static_cast<std::uint8_t>(i)}))] =
        rounded(rates.dropped_by_reason[i]);
  return object;
}

/// The rates between now and the sample that is at least `age` old.
Rates rates_of_late(const PageData& data, Duration age) {
  const Sample* const before = data.history.before(data.now.at, age);
  return before == nullptr ? Rates() : Rates::between(*before, data.now);
}

/// One row for each pair of samples next to each other: when the time between them ended, and what
/// happened in each second of it.
ordered_json history_of(const PageData& data, const PageProgress& progress) {
  const History& history = data.history;
  const std::uint64_t first = history.next() - history.size();
  const bool goes_on = progress.run == data.run && progress.next <= history.next();
  ordered_json rows = ordered_json::array();
  for (std::uint64_t i = std::max(first + 1, goes_on ? progress.next : 0); i < history.next();
       ++i) {
    const Sample& sample = history.at(i);
    const Rates rates = Rates::between(history.at(i - 1), sample);
    const auto at = data.status.wall_time(sample.at).time_since_epoch();
    rows.push_back({std::round(std::chrono::duration<double>(at).count()), sample.clients,
                    std::round(rates.received_bytes), std::round(rates.sent_bytes),
                    rounded(rates.received_packets), rounded(rates.sent_packets),
                    rounded(rates.dropped)});
  }
  return {{"next", history.next()},
          {"periodSeconds", std::chrono::duration<double>(History::kPeriod).count()},
          {"columns",
           {"at", "clients", "receivedBytes", "sentBytes", "receivedPackets", "sentPackets",
            "dropped"}},
          {"rows", std::move(rows)}};
}

ordered_json json_of(const std::optional<DoctorVisit>& visit) {
  if (!visit) return nullptr;
  ordered_json sections = ordered_json::array();
  for (const auto& section : visit->findings.sections) {
    ordered_json findings = ordered_json::array();
    for (const auto& finding : section.findings)
      findings.push_back({{"state", finding.state},
                          {"code", finding.code},
                          {"fault", finding.fault},
                          {"check", finding.check},
                          {"cause", finding.cause},
                          {"fix", finding.fix}});
    sections.push_back({{"title", section.title}, {"findings", std::move(findings)}});
  }
  return {{"at", time_text(visit->at)},
          {"sections", std::move(sections)},
          {"leftOut", visit->findings.left_out}};
}

/// What the clients that are not listed do together.
ordered_json rest_of(const RelayStatus& status, const std::vector<const ClientStatus*>& listed) {
  double received = 0;
  double sent = 0;
  for (const auto& client : status.clients) {
    received += client.received_per_second.value_or(0);
    sent += client.sent_per_second.value_or(0);
  }
  for (const auto* const client : listed) {
    received -= client->received_per_second.value_or(0);
    sent -= client->sent_per_second.value_or(0);
  }
  return {{"clients", status.clients.size() - listed.size()},
          {"receivedPerSecond", std::round(std::max(received, 0.0))},
          {"sentPerSecond", std::round(std::max(sent, 0.0))}};
}

}  // namespace

std::optional<PageProgress> parse_page_progress(std::string_view query, std::string& problem) {
  PageProgress progress;
  progress.run = query_value(query, "run").value_or("");
  if (progress.run.size() > kRunMax) {
    problem = fmt::format(
        "run: {} characters, and at most {} are taken: send what the answer "
        "before said",
        progress.run.size(), kRunMax);
    return std::nullopt;
  }
  if (const auto next = query_value(query, "next")) {
    const char* const end = next->data() + next->size();
    const auto [parsed_to, error] = std::from_chars(next->data(), end, progress.next);
    if (error != std::errc() || parsed_to != end) {
      problem = "next: a number is needed: send what history.next of the answer before said";
      return std::nullopt;
    }
  }
  return progress;
}

std::string format_page_json(const PageData& data, const PageProgress& progress) {
  const RelayStatus& status = data.status;
  const auto listed =
      select_clients(status, {.order = ClientOrder::kRate, .limit = kPageClientsMax});
  ordered_json whole = status_object(status, listed, kPagePairsMax);
  whole["listening"].push_back(
      {{"what", data.monitoring.what}, {"address", data.monitoring.address}});
  whole["run"] = data.run;
  whole["unlisted"] = rest_of(status, listed);
  whole["perSecond"] = json_of(rates_of_late(data, kNowCovers));
  whole["droppedPerSecond"] = json_of_drops(rates_of_late(data, kDropsCover));
  whole["history"] = history_of(data, progress);
  whole["doctor"] = json_of(data.doctor);
  return json_text(whole);
}

}  // namespace detour::admin
