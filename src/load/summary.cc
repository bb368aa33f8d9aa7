#include "load/summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace detour::load {

namespace {

/// One line of the table.
struct Row {
  std::string_view path;
  std::string_view label;
  double factor;  ///< From the report's unit to the label's.
  int digits;
};
constexpr std::array kRows = std::to_array<Row>({
    {"relay.gbit_per_s", "throughput, Mbit/s", 1e3, 2},
    {"relay.packets_per_s", "packets/s", 1, 0},
    {"relay.lost_percent", "lost, %", 1, 3},
    {"relay.latency_us.p50", "one way p50, ms", 1e-3, 3},
    {"relay.latency_us.p90", "one way p90, ms", 1e-3, 3},
    {"relay.latency_us.p99", "one way p99, ms", 1e-3, 3},
    {"stun.round_trip_us.p50", "STUN round trip p50, ms", 1e-3, 3},
    {"stun.round_trip_us.p90", "STUN round trip p90, ms", 1e-3, 3},
    {"stun.round_trip_us.p99", "STUN round trip p99, ms", 1e-3, 3},
    {"login.logins_per_s", "logins/s", 1, 1},
    {"login.login_us.p50", "login p50, ms", 1e-3, 2},
    {"login.login_us.p90", "login p90, ms", 1e-3, 2},
    {"login.login_us.p99", "login p99, ms", 1e-3, 2},
});

/// Less than this share of the packets that were due, and the pace was not kept.
constexpr double kPaceMin = 0.95;

const Report* find(const Report& round, std::string_view path) {
  const Report* at = &round;
  while (!path.empty()) {
    const auto dot = path.find('.');
    const auto name = path.substr(0, dot);
    if (!at->is_object()) return nullptr;
    const auto found = at->find(name);
    if (found == at->end()) return nullptr;
    at = &*found;
    path = dot == std::string_view::npos ? std::string_view{} : path.substr(dot + 1);
  }
  return at;
}

double number(const Report& round, std::string_view path) {
  const Report* found = find(round, path);
  return found != nullptr && found->is_number() ? found->get<double>() : 0.0;
}

double sum(const ServerResult& server, std::string_view path) {
  double total = 0;
  for (const auto& round : server.rounds) total += number(round, path);
  return total;
}

std::optional<double> ratio(const std::vector<ServerResult>& servers, std::string_view path) {
  if (servers.size() != 2) return std::nullopt;
  const auto first = median(servers[0], path);
  const auto second = median(servers[1], path);
  if (!first || !second || *second == 0) return std::nullopt;
  return *first / *second;
}

bool was_stopped(const Report& round) {
  return std::ranges::any_of(round, [](const Report& part) { return part.contains("stopped"); });
}

void warn_of_packets(const ServerResult& server, std::vector<std::string>* warnings) {
  const double lost = sum(server, "relay.lost_packets");
  const double delivered = sum(server, "relay.delivered_packets");
  if (lost > 0)
    warnings->push_back(fmt::format("{}: {} of {} packets were lost ({:.3g} %)", server.name, lost,
                                    delivered + lost, 100 * lost / (delivered + lost)));
  const double corrupt = sum(server, "relay.corrupt_packets");
  if (corrupt > 0)
    warnings->push_back(
        fmt::format("{}: {} packets came that were not as they were sent", server.name, corrupt));
  double due = 0;
  for (const auto& round : server.rounds)
    due += number(round, "relay.offered_packets_per_s") * number(round, "relay.seconds");
  if (due > 0 && delivered + lost < kPaceMin * due)
    warnings->push_back(
        fmt::format("{}: only {:.0f} of {:.0f} packets that were due arrived in time or were lost: "
                    "the relay, the way to it or this machine does not keep the rate",
                    server.name, delivered + lost, due));
}

void warn_of_stun(const ServerResult& server, std::vector<std::string>* warnings) {
  const double lost = sum(server, "stun.lost");
  const double answers = sum(server, "stun.answers");
  if (lost > 0)
    warnings->push_back(
        fmt::format("{}: {} of {} STUN requests had no answer", server.name, lost, answers + lost));
}

void warn_of_errors(const ServerResult& server, std::vector<std::string>* warnings) {
  for (const auto& round : server.rounds) {
    for (const auto& [part, report] : round.items()) {
      if (const auto* error = find(report, "error"))
        warnings->push_back(
            fmt::format("{}: {}: {}", server.name, part, error->get<std::string>()));
    }
  }
}

}  // namespace

std::optional<double> median(const ServerResult& server, std::string_view path) {
  std::vector<double> values;
  for (const auto& round : server.rounds) {
    const Report* found = find(round, path);
    if (found != nullptr && found->is_number()) values.push_back(found->get<double>());
  }
  if (values.empty()) return std::nullopt;
  std::ranges::sort(values);
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

std::string table_text(const std::vector<ServerResult>& servers) {
  std::size_t label_width = 0;
  for (const auto& row : kRows) label_width = std::max(label_width, row.label.size());
  std::string text = fmt::format("{:<{}}", "", label_width);
  for (const auto& server : servers)
    text += fmt::format("  {:>{}}", server.name, std::max<std::size_t>(10, server.name.size()));
  if (servers.size() == 2) text += "   ratio";
  text += '\n';
  for (const auto& [path, label, factor, digits] : kRows) {
    if (std::ranges::none_of(servers, [&](const auto& s) { return median(s, path).has_value(); }))
      continue;
    text += fmt::format("{:<{}}", label, label_width);
    for (const auto& server : servers) {
      const auto value = median(server, path);
      text += fmt::format("  {:>{}}", value ? fmt::format("{:.{}f}", *value * factor, digits) : "-",
                          std::max<std::size_t>(10, server.name.size()));
    }
    if (const auto share = ratio(servers, path)) text += fmt::format("  {:6.2f}", *share);
    text += '\n';
  }
  return text;
}

std::vector<std::string> warnings_of(const std::vector<ServerResult>& servers) {
  std::vector<std::string> warnings;
  for (const auto& server : servers) {
    warn_of_packets(server, &warnings);
    warn_of_stun(server, &warnings);
    warn_of_errors(server, &warnings);
  }
  const bool stopped = std::ranges::any_of(
      servers, [](const auto& server) { return std::ranges::any_of(server.rounds, was_stopped); });
  if (stopped) warnings.emplace_back("stopped before the end: these are the numbers until then");
  return warnings;
}

bool nothing_arrived(const std::vector<ServerResult>& servers) {
  return std::ranges::any_of(servers, [](const ServerResult& server) {
    return sum(server, "relay.lost_packets") > 0 && sum(server, "relay.delivered_packets") == 0;
  });
}

Report result_json(const Plan& plan, const std::vector<ServerResult>& servers) {
  const auto warnings = warnings_of(servers);
  Report result;
  result["ok"] = warnings.empty();
  result["warnings"] = warnings;
  result["plan"] = {{"pairs", plan.pairs},
                    {"bits_per_second", plan.bits_per_second},
                    {"packet_bytes", plan.packet_bytes},
                    {"seconds", plan.seconds},
                    {"rounds", plan.rounds},
                    {"logins", plan.logins},
                    {"stun", plan.stun}};
  result["servers"] = Report::array();
  for (const auto& server : servers) {
    Report medians = Report::object();
    for (const auto& row : kRows) {
      if (const auto value = median(server, row.path)) medians[std::string(row.path)] = *value;
    }
    result["servers"].push_back(
        {{"name", server.name}, {"medians", std::move(medians)}, {"rounds", server.rounds}});
  }
  if (servers.size() == 2) {
    result["ratios"] = Report::object();
    for (const auto& row : kRows) {
      if (const auto share = ratio(servers, row.path))
        result["ratios"][std::string(row.path)] = *share;
    }
  }
  return result;
}

}  // namespace detour::load
