#include "admin/client_query.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <set>
#include <tuple>
#include <utility>

#include "admin/query.h"

namespace detour::admin {
namespace {

std::string_view name_of(ClientSort sort) {
  return std::ranges::find(kClientColumns, sort, &ClientColumn::sort)->name;
}

std::string sort_text(const ClientQuery& query) {
  return (query.descending ? "-" : "") + std::string(name_of(query.sort));
}

/// What is wrong, for the answer.
using Problem = std::string;

template <typename Number>
std::optional<Number> parse_number(std::string_view text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

/// "1h30m", "45s", "1.5h": as Go reads durations; none shorter than nothing.
std::optional<std::chrono::nanoseconds> parse_duration(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, double>, 7> kUnits = {
      {{"ns", 1}, {"us", 1e3}, {"µs", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}}};
  if (text.empty()) return std::nullopt;
  double total = 0;
  while (!text.empty()) {
    double number = 0;
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
    if (error != std::errc() || number < 0) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    const auto unit_end = text.find_first_of("0123456789.");
    const std::string_view unit = text.substr(0, unit_end);
    const auto* const known =
        std::ranges::find(kUnits, unit, &std::pair<std::string_view, double>::first);
    if (known == kUnits.end()) return std::nullopt;
    text.remove_prefix(unit.size());
    total += number * known->second;
  }
  constexpr double kLongest = 9e18;
  if (total > kLongest) return std::nullopt;
  return std::chrono::nanoseconds(static_cast<std::int64_t>(total));
}

/// An address with a port, or without one: then what lies behind all its ports.
std::optional<ClientPlace> parse_address(std::string_view text, bool descending) {
  constexpr std::uint64_t kPortMax = 65535;
  if (const auto ip = parse_ip(text))
    return ClientPlace{.key = {}, .ip = *ip, .number = descending ? 0 : kPortMax};
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const auto port = parse_number<std::uint16_t>(text.substr(colon + 1));
  std::string_view host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  const auto ip = parse_ip(host);
  if (!ip || !port) return std::nullopt;
  return ClientPlace{.key = {}, .ip = *ip, .number = *port};
}

std::optional<Problem> read_after(const std::string& text, const RelayStatus& status,
                                  ClientQuery& query) {
  const auto bad = [&](std::string_view more = "") {
    return fmt::format("bad after {:?} for sort by {}{}", text, name_of(query.sort), more);
  };
  switch (query.sort) {
    case ClientSort::kKey: {
      const auto key = crypto::NodePublic::parse(text);
      if (!key) return bad("; want nodekey: and 64 hex digits");
      query.after = ClientPlace{.key = *key};
      return std::nullopt;
    }
    case ClientSort::kIp:
      query.after = parse_address(text, query.descending);
      if (!query.after) return bad("; want an address, with or without a port");
      return std::nullopt;
    case ClientSort::kConnected:
      if (const auto time = parse_number<std::int64_t>(text)) {
        query.after = ClientPlace{.number = static_cast<std::uint64_t>(*time)};
      } else if (const auto duration = parse_duration(text)) {
        query.after = ClientPlace{
            .number = static_cast<std::uint64_t>(unix_nanoseconds(status.at) - duration->count())};
      } else {
        return bad("; want Unix nanoseconds or a duration");
      }
      return std::nullopt;
    default:
      const auto number = parse_number<std::uint64_t>(text);
      if (!number) return bad("; want a number");
      query.after = ClientPlace{.number = *number};
      return std::nullopt;
  }
}

std::optional<Problem> read_filter(std::string_view text, ClientQuery& query) {
  int filters = 0;
  const auto given = [&](std::string_view name) {
    const auto value = query_value(text, name);
    return value && !value->empty() ? value : std::nullopt;
  };
  if (query_value(text, "all")) {
    ++filters;
    query.all = true;
  }
  if (const auto ip = given("ip")) {
    ++filters;
    query.ip = parse_ip(*ip);
    if (!query.ip) return fmt::format("bad ip {:?}", *ip);
  }
  if (const auto cidr = given("cidr")) {
    ++filters;
    query.cidr = parse_ip_prefix(*cidr);
    if (!query.cidr) return fmt::format("bad cidr {:?}; want an address, / and bits", *cidr);
    query.cidr_text = *cidr;
  }
  if (const auto key = given("key")) {
    ++filters;
    const auto parsed = crypto::NodePublic::parse(*key);
    if (!parsed) return fmt::format("bad key {:?}; want nodekey: and 64 hex digits", *key);
    query.key = *parsed;
  }
  query.apps = query_values(text, "app");
  query.has_apps = !query.apps.empty();
  if (filters > 1) return "only one of all, ip, cidr, or key may be given";
  if (filters == 0 && query.has_apps) query.all = true;
  return std::nullopt;
}

std::optional<Problem> read_query(std::string_view text, const RelayStatus& status,
                                  ClientQuery& query) {
  const auto given = [&](std::string_view name) { return query_value(text, name).value_or(""); };
  const auto format = given("format");
  if (!format.empty() && format != "json" && format != "html")
    return fmt::format("bad format {:?}; want json or html", format);
  query.json = format == "json";
  if (auto problem = read_filter(text, query)) return problem;

  if (const auto sort = given("sort"); !sort.empty()) {
    query.descending = sort.starts_with('-');
    const auto name = std::string_view(sort).substr(query.descending ? 1 : 0);
    const auto* const known = std::ranges::find(kClientColumns, name, &ClientColumn::name);
    if (known == kClientColumns.end())
      return fmt::format(
          "bad sort {:?}; want key, ip, conn, connected, rx, tx, rxpkts, or txpkts, and - in front "
          "for descending",
          sort);
    query.sort = known->sort;
  }
  if (const auto limit = given("limit"); !limit.empty()) {
    const auto number = parse_number<std::size_t>(limit);
    if (!number || *number == 0) return fmt::format("bad limit {:?}; want 1 or more", limit);
    query.limit = std::min(*number, ClientQuery::kLimitMax);
  }
  if (const auto after = given("after"); !after.empty()) {
    if (auto problem = read_after(after, status, query)) return problem;
  }
  if (const auto conn = given("afterconn"); !conn.empty() && query.after) {
    query.after_conn = parse_number<std::uint64_t>(conn);
    if (!query.after_conn) return fmt::format("bad afterconn {:?}; want a number", conn);
  }
  return std::nullopt;
}

ClientPlace place_of(ClientSort sort, const RelayStatus& status, const ClientStatus& client) {
  ClientPlace place;
  switch (sort) {
    case ClientSort::kKey:
      place.key = client.identity.key;
      break;
    case ClientSort::kIp:
      place.ip = client.identity.address;
      place.number = client.identity.port;
      break;
    case ClientSort::kConn:
      place.number = client.identity.id;
      break;
    case ClientSort::kConnected:
      place.number = static_cast<std::uint64_t>(unix_nanoseconds(connected_at(status, client)));
      break;
    case ClientSort::kReceivedBytes:
      place.number = client.received.bytes;
      break;
    case ClientSort::kSentBytes:
      place.number = client.sent_bytes;
      break;
    case ClientSort::kReceivedPackets:
      place.number = client.received.packets;
      break;
    case ClientSort::kSentPackets:
      place.number = client.sent_packets;
      break;
  }
  return place;
}

/// Whether an entry lies behind where the page before ended.
bool is_behind(const ClientQuery& query, const ClientPage::Entry& entry) {
  if (!query.after) return true;
  auto order = entry.place <=> *query.after;
  if (order == 0) {
    // Without a connection's number all that share the value are passed over.
    if (!query.after_conn) return false;
    order = entry.conn <=> *query.after_conn;
  }
  return query.descending ? order < 0 : order > 0;
}

}  // namespace

std::expected<ClientQuery, std::string> ClientQuery::parse(std::string_view text,
                                                           const RelayStatus& status) {
  ClientQuery query;
  if (const auto problem = read_query(text, status, query)) return std::unexpected(*problem);
  return query;
}

bool ClientQuery::matches(const ClientStatus& client) const {
  const auto& identity = client.identity;
  if (ip && identity.address != *ip) return false;
  if (cidr && !cidr->contains(identity.address)) return false;
  if (key && identity.key != *key) return false;
  return !has_apps || std::ranges::find(apps, identity.app_name) != apps.end();
}

std::string ClientQuery::description() const {
  std::string text = all    ? "all clients"
                     : ip   ? "clients from " + ip_text(*ip)
                     : cidr ? "clients from " + cidr_text
                            : "connections for " + key->typed();
  for (std::size_t i = 0; i < apps.size(); ++i)
    text +=
        fmt::format("{}{}", i == 0 ? " with app " : " or ", apps[i].empty() ? "(none)" : apps[i]);
  return text;
}

std::string ClientQuery::link(std::string_view order, std::string_view behind,
                              std::string_view behind_conn) const {
  std::string text = "?";
  const auto add = [&text](std::string_view name, std::string_view value) {
    if (text.size() > 1) text += '&';
    text += fmt::format("{}={}", name, query_escape(value));
  };
  if (!behind.empty()) add("after", behind);
  if (!behind_conn.empty()) add("afterconn", behind_conn);
  if (all) add("all", "1");
  if (has_apps)
    for (const auto& app : apps) add("app", app);
  if (cidr) add("cidr", cidr_text);
  if (json) add("format", "json");
  if (ip) add("ip", ip_text(*ip));
  if (key) add("key", key->typed());
  if (limit != kLimitDefault) add("limit", std::to_string(limit));
  add("sort", order);
  return text;
}

ClientPage ClientPage::make(const ClientQuery& query, const RelayStatus& status) {
  ClientPage page;
  std::set<crypto::NodePublic> keys;
  for (const ClientStatus& client : status.clients) {
    if (!query.matches(client)) continue;
    ++page.connections;
    keys.insert(client.identity.key);
    const Entry entry{.place = place_of(query.sort, status, client),
                      .conn = client.identity.id,
                      .client = &client};
    if (is_behind(query, entry)) page.entries.push_back(entry);
  }
  page.keys = keys.size();
  std::ranges::sort(page.entries, [&query](const Entry& a, const Entry& b) {
    const bool before = std::tie(a.place, a.conn) < std::tie(b.place, b.conn);
    return query.descending ? std::tie(b.place, b.conn) < std::tie(a.place, a.conn) : before;
  });
  if (page.entries.size() > query.limit) {
    page.remaining = page.entries.size() - query.limit;
    page.entries.resize(query.limit);
  }
  return page;
}

std::string ClientPage::next_link(const ClientQuery& query) const {
  if (remaining == 0) return {};
  const Entry& last = entries.back();
  const std::string sort = sort_text(query);
  const std::string conn = std::to_string(last.conn);
  switch (query.sort) {
    case ClientSort::kKey:
      return query.link(sort, last.client->identity.key.typed(), conn);
    case ClientSort::kIp:
      return query.link(sort, address_text(last.client->identity), conn);
    case ClientSort::kConn:
      return query.link(sort, conn);
    default:
      return query.link(sort, std::to_string(last.place.number), conn);
  }
}

std::int64_t unix_nanoseconds(WallTime time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

WallTime connected_at(const RelayStatus& status, const ClientStatus& client) {
  return status.wall_time(client.identity.connected_at);
}

}  // namespace detour::admin
