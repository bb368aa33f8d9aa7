#include "admin/debug_clients.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <tuple>
#include <vector>

#include "admin/debug_access.h"
#include "admin/pages.h"
#include "admin/query.h"
#include "admin/routes.h"

namespace detour::admin {
namespace {

using nlohmann::ordered_json;

constexpr std::size_t kLimitDefault = 100;
constexpr std::size_t kLimitMax = 1000;

enum class Sort : std::uint8_t {
  kKey,
  kIp,
  kConn,
  kConnected,
  kReceivedBytes,
  kSentBytes,
  kReceivedPackets,
  kSentPackets,
};
struct SortName {
  std::string_view name;
  Sort sort;
  std::string_view heading;
};
/// In the order of the columns of the page.
constexpr std::array<SortName, 8> kSorts = {{{"conn", Sort::kConn, "conn#"},
                                             {"key", Sort::kKey, "node key"},
                                             {"ip", Sort::kIp, "remote"},
                                             {"connected", Sort::kConnected, "connected"},
                                             {"rxpkts", Sort::kReceivedPackets, "rx pkts"},
                                             {"rx", Sort::kReceivedBytes, "rx bytes"},
                                             {"txpkts", Sort::kSentPackets, "tx pkts"},
                                             {"tx", Sort::kSentBytes, "tx bytes"}}};

std::string_view name_of(Sort sort) {
  return std::ranges::find(kSorts, sort, &SortName::sort)->name;
}

bool is_counter(Sort sort) {
  return sort >= Sort::kReceivedBytes;
}

/// What a client is sorted by; of the members the one that the order needs is set.
struct Place {
  crypto::NodePublic key{};
  IpBytes ip{};
  std::uint64_t number = 0;  ///< Port, nanoseconds since 1970, or count.

  friend auto operator<=>(const Place&, const Place&) = default;
};

/// A request for clients, understood.
struct Query {
  // Exactly one of these.
  bool all = false;
  std::optional<IpBytes> ip;
  std::optional<IpPrefix> cidr;
  std::string cidr_text;
  std::optional<crypto::NodePublic> key;

  std::vector<std::string> apps;
  bool has_apps = false;
  Sort sort = Sort::kKey;
  bool descending = false;
  std::size_t limit = kLimitDefault;
  bool json = false;

  // The page begins behind this one.
  std::optional<Place> after;
  std::optional<std::uint64_t> after_conn;

  [[nodiscard]] std::string sort_text() const {
    return (descending ? "-" : "") + std::string(name_of(sort));
  }
};

/// Thrown away by answer_clients(), which says it to the caller.
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
std::optional<Place> parse_address(std::string_view text, bool descending) {
  constexpr std::uint64_t kPortMax = 65535;
  if (const auto ip = parse_ip(text))
    return Place{.key = {}, .ip = *ip, .number = descending ? 0 : kPortMax};
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const auto port = parse_number<std::uint16_t>(text.substr(colon + 1));
  std::string_view host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  const auto ip = parse_ip(host);
  if (!ip || !port) return std::nullopt;
  return Place{.key = {}, .ip = *ip, .number = *port};
}

std::int64_t unix_nanoseconds(WallTime time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

std::optional<Problem> read_after(const std::string& text, const RelayStatus& status,
                                  Query& query) {
  const auto bad = [&](std::string_view more = "") {
    return fmt::format("bad after {:?} for sort by {}{}", text, name_of(query.sort), more);
  };
  switch (query.sort) {
    case Sort::kKey: {
      const auto key = crypto::NodePublic::parse(text);
      if (!key) return bad("; want nodekey: and 64 hex digits");
      query.after = Place{.key = *key};
      return std::nullopt;
    }
    case Sort::kIp:
      query.after = parse_address(text, query.descending);
      if (!query.after) return bad("; want an address, with or without a port");
      return std::nullopt;
    case Sort::kConnected:
      if (const auto time = parse_number<std::int64_t>(text)) {
        query.after = Place{.number = static_cast<std::uint64_t>(*time)};
      } else if (const auto duration = parse_duration(text)) {
        query.after = Place{
            .number = static_cast<std::uint64_t>(unix_nanoseconds(status.at) - duration->count())};
      } else {
        return bad("; want Unix nanoseconds or a duration");
      }
      return std::nullopt;
    default:
      const auto number = parse_number<std::uint64_t>(text);
      if (!number) return bad("; want a number");
      query.after = Place{.number = *number};
      return std::nullopt;
  }
}

std::optional<Problem> read_filter(std::string_view text, Query& query) {
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

/// The text says what is wrong. Without a filter `query` has none either: the index is meant.
std::optional<Problem> read_query(std::string_view text, const RelayStatus& status, Query& query) {
  const auto given = [&](std::string_view name) { return query_value(text, name).value_or(""); };
  const auto format = given("format");
  if (!format.empty() && format != "json" && format != "html")
    return fmt::format("bad format {:?}; want json or html", format);
  query.json = format == "json";
  if (auto problem = read_filter(text, query)) return problem;

  if (const auto sort = given("sort"); !sort.empty()) {
    query.descending = sort.starts_with('-');
    const auto name = std::string_view(sort).substr(query.descending ? 1 : 0);
    const auto* const known = std::ranges::find(kSorts, name, &SortName::name);
    if (known == kSorts.end())
      return fmt::format(
          "bad sort {:?}; want key, ip, conn, connected, rx, tx, rxpkts, or txpkts, and - in front "
          "for descending",
          sort);
    query.sort = known->sort;
  }
  if (const auto limit = given("limit"); !limit.empty()) {
    const auto number = parse_number<std::size_t>(limit);
    if (!number || *number == 0) return fmt::format("bad limit {:?}; want 1 or more", limit);
    query.limit = std::min(*number, kLimitMax);
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

bool has_filter(const Query& query) {
  return query.all || query.ip || query.cidr || query.key;
}

bool matches(const Query& query, const ClientStatus& client) {
  const auto& identity = client.identity;
  if (query.ip && identity.address != *query.ip) return false;
  if (query.cidr && !query.cidr->contains(identity.address)) return false;
  if (query.key && identity.key != *query.key) return false;
  return !query.has_apps || std::ranges::find(query.apps, identity.app_name) != query.apps.end();
}

WallTime connected_at(const RelayStatus& status, const ClientStatus& client) {
  return status.wall_time(client.identity.connected_at);
}

Place place_of(Sort sort, const RelayStatus& status, const ClientStatus& client) {
  Place place;
  switch (sort) {
    case Sort::kKey:
      place.key = client.identity.key;
      break;
    case Sort::kIp:
      place.ip = client.identity.address;
      place.number = client.identity.port;
      break;
    case Sort::kConn:
      place.number = client.identity.id;
      break;
    case Sort::kConnected:
      place.number = static_cast<std::uint64_t>(unix_nanoseconds(connected_at(status, client)));
      break;
    case Sort::kReceivedBytes:
      place.number = client.received.bytes;
      break;
    case Sort::kSentBytes:
      place.number = client.sent_bytes;
      break;
    case Sort::kReceivedPackets:
      place.number = client.received.packets;
      break;
    case Sort::kSentPackets:
      place.number = client.sent_packets;
      break;
  }
  return place;
}

struct Entry {
  Place place;
  relay::ClientId conn;
  const ClientStatus* client;
};

struct Page {
  std::vector<Entry> entries;
  std::size_t connections = 0;  ///< That match, wherever the page begins.
  std::size_t keys = 0;
  std::size_t remaining = 0;  ///< Behind this page.
};

/// Whether an entry lies behind where the page before ended.
bool is_behind(const Query& query, const Entry& entry) {
  if (!query.after) return true;
  auto order = entry.place <=> *query.after;
  if (order == 0) {
    // Without a connection's number all that share the value are passed over.
    if (!query.after_conn) return false;
    order = entry.conn <=> *query.after_conn;
  }
  return query.descending ? order < 0 : order > 0;
}

Page make_page(const Query& query, const RelayStatus& status) {
  Page page;
  std::set<crypto::NodePublic> keys;
  for (const ClientStatus& client : status.clients) {
    if (!matches(query, client)) continue;
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

/// A relative address for the same clients in another order or from another place on. Its parts are
/// in the order of the alphabet.
std::string link(const Query& query, std::string_view sort, std::string_view after = "",
                 std::string_view after_conn = "") {
  std::string text = "?";
  const auto add = [&text](std::string_view name, std::string_view value) {
    if (text.size() > 1) text += '&';
    text += fmt::format("{}={}", name, query_escape(value));
  };
  if (!after.empty()) add("after", after);
  if (!after_conn.empty()) add("afterconn", after_conn);
  if (query.all) add("all", "1");
  if (query.has_apps)
    for (const auto& app : query.apps) add("app", app);
  if (query.cidr) add("cidr", query.cidr_text);
  if (query.json) add("format", "json");
  if (query.ip) add("ip", ip_text(*query.ip));
  if (query.key) add("key", query.key->typed());
  if (query.limit != kLimitDefault) add("limit", std::to_string(query.limit));
  add("sort", sort);
  return text;
}

/// Where the page behind this one is; empty when this is the last.
std::string next_link(const Query& query, const Page& page) {
  if (page.remaining == 0) return {};
  const Entry& last = page.entries.back();
  const std::string conn = std::to_string(last.conn);
  switch (query.sort) {
    case Sort::kKey:
      return link(query, query.sort_text(), last.client->identity.key.typed(), conn);
    case Sort::kIp:
      return link(query, query.sort_text(), address_text(last.client->identity), conn);
    case Sort::kConn:
      return link(query, query.sort_text(), conn);
    default:
      return link(query, query.sort_text(), std::to_string(last.place.number), conn);
  }
}

std::string description(const Query& query) {
  std::string text = query.all    ? "all clients"
                     : query.ip   ? "clients from " + ip_text(*query.ip)
                     : query.cidr ? "clients from " + query.cidr_text
                                  : "connections for " + query.key->typed();
  for (std::size_t i = 0; i < query.apps.size(); ++i)
    text += fmt::format("{}{}", i == 0 ? " with app " : " or ",
                        query.apps[i].empty() ? "(none)" : query.apps[i]);
  return text;
}

std::chrono::seconds connected_for(const RelayStatus& status, const ClientStatus& client) {
  return std::chrono::round<std::chrono::seconds>(status.now - client.identity.connected_at);
}

ordered_json json_of(const RelayStatus& status, const ClientStatus& client) {
  const auto& identity = client.identity;
  const WallTime since = connected_at(status, client);
  const auto fraction = unix_nanoseconds(since) % 1'000'000'000;
  std::string since_text = time_text(since);
  since_text.insert(since_text.size() - 1, fmt::format(".{:09}", fraction));
  return {{"connNum", identity.id},
          {"key", identity.key.typed()},
          {"remote", address_text(identity)},
          {"connectedAt", since_text},
          {"connected", std::chrono::nanoseconds(connected_for(status, client)).count()},
          {"active", client.is_active},
          {"dup", client.is_duplicate},
          {"disabled", false},
          {"home", client.is_home},
          {"meshPeer", identity.is_mesh_peer},
          {"notIdeal", identity.is_not_ideal},
          {"prober", identity.is_prober},
          {"version", identity.version},
          {"appName", identity.app_name},
          {"rxPkts", client.received.packets},
          {"rxBytes", client.received.bytes},
          {"txPkts", client.sent_packets},
          {"txBytes", client.sent_bytes},
          {"senders", 0}};
}

http::Response json_response(const ordered_json& json, int indent) {
  http::Response response{
      .status = 200,
      .headers = {{"Content-Type", "application/json"}},
      .body = json.dump(indent, '\t', false, ordered_json::error_handler_t::replace) + "\n"};
  return response;
}

http::Response html_response(std::string title, std::string body) {
  return {.status = 200,
          .headers = {{"Content-Type", "text/html; charset=utf-8"}},
          .body = fmt::format(
              "<!DOCTYPE html>\n<html lang=\"en\"><head><title>{0}</title>\n<style>\n"
              "body {{ font-family: sans-serif; }}\n"
              "table {{ border-collapse: collapse; font-family: monospace; }}\n"
              "th, td {{ border: 1px solid #bbb; padding: 0.1em 0.5em; text-align: left; }}\n"
              "td.n {{ text-align: right; }}\n</style></head>\n<body>\n<h1>{0}</h1>\n{1}"
              "</body></html>\n",
              title, body)};
}

http::Response index_page(const RelayStatus& status, bool json) {
  const std::uint64_t connections = status.totals.current_connections;
  const std::uint64_t keys = status.totals.clients_local;
  if (json) return json_response({{"conns", connections}, {"keys", keys}}, -1);
  std::string body =
      fmt::format("<p>{} connections for {} node keys.</p>\n", connections, keys) +
      "<form method=\"GET\"><button name=\"all\" value=\"1\">List all clients</button></form>\n";
  const auto add_form = [&body](std::string_view what, std::string_view name, int size,
                                std::string_view example) {
    body += fmt::format(
        "<form method=\"GET\"><p>{}: <input name=\"{}\" size=\"{}\" placeholder=\"{}\"> "
        "<button>Go</button></p></form>\n",
        what, name, size, example);
  };
  add_form("By IP address", "ip", 40, "192.0.2.7");
  add_form("By CIDR", "cidr", 40, "192.0.2.0/24");
  add_form("By node key", "key", 80, "nodekey:");
  add_form("By app name", "app", 40, "");
  body +=
      "<p>Further parameters: <code>app</code> (several are fine, and narrow any list), "
      "<code>sort</code> (key, ip, conn, connected, rx, tx, rxpkts, txpkts; with - in front "
      "descending), <code>limit</code> (1 to 1000), <code>after</code> (a value of what is sorted "
      "by; for connected also a duration such as 30m), <code>format</code> (json).</p>\n";
  return html_response("DERP clients", std::move(body));
}

std::string flags_text(const ClientStatus& client) {
  std::string text;
  const auto add = [&text](bool is_set, std::string_view name) {
    if (!is_set) return;
    if (!text.empty()) text += ' ';
    text += name;
  };
  add(client.is_home, "home");
  add(client.identity.is_mesh_peer, "mesh");
  add(client.identity.is_prober, "prober");
  add(client.identity.is_not_ideal, "notideal");
  add(client.is_duplicate, client.is_active ? "dup-active" : "dup");
  return text;
}

std::string row(const RelayStatus& status, const ClientStatus& client) {
  const auto& identity = client.identity;
  const std::string key = identity.key.typed();
  const std::string app = escape_html(identity.app_name);
  return fmt::format(
      "<tr>\n<td>{}</td>\n<td><a href=\"?key={}\">{}</a></td>\n<td><a href=\"?ip={}\">{}</a></td>\n"
      "<td>{}</td>\n<td>{}</td>\n<td>{}</td>\n<td>{}</td>\n<td class=\"n\">{}</td>\n"
      "<td class=\"n\">{}</td>\n<td class=\"n\">{}</td>\n<td class=\"n\">{}</td>\n</tr>\n",
      identity.id, key, key, query_escape(ip_text(identity.address)), address_text(identity),
      format_duration(connected_for(status, client)), flags_text(client), identity.version,
      app.empty() ? std::string()
                  : fmt::format("<a href=\"?app={}\">{}</a>", query_escape(identity.app_name), app),
      client.received.packets, client.received.bytes, client.sent_packets, client.sent_bytes);
}

std::string heading(const Query& query, const SortName& column) {
  // A click on the column that it is sorted by turns it round; counters begin with the most.
  const bool is_this = column.sort == query.sort;
  const bool descends = is_this ? !query.descending : is_counter(column.sort);
  return fmt::format("<th><a href=\"{}\">{}</a>{}</th>",
                     escape_html(link(query, (descends ? "-" : "") + std::string(column.name))),
                     column.heading,
                     !is_this           ? ""
                     : query.descending ? " ▼"
                                        : " ▲");
}

http::Response list_page(const RelayStatus& status, const Query& query) {
  const Page page = make_page(query, status);
  const std::string next = next_link(query, page);
  if (query.json) {
    ordered_json clients = ordered_json::array();
    for (const auto& entry : page.entries) clients.push_back(json_of(status, *entry.client));
    ordered_json whole = {{"query", description(query)},
                          {"conns", page.connections},
                          {"keys", page.keys},
                          {"remaining", page.remaining}};
    if (!next.empty()) whole["next"] = next;
    whole["clients"] = std::move(clients);
    return json_response(whole, 1);
  }
  const std::string more = next.empty()
                               ? std::string()
                               : fmt::format("<p><a href=\"{}\">Next page</a> ({} more)</p>\n",
                                             escape_html(next), page.remaining);
  std::string body = fmt::format(
      "<p><a href=\"./\">index</a></p>\n"
      "<p>Showing {} of {} matching connections ({} node keys).</p>\n{}<table>\n<tr>",
      page.entries.size(), page.connections, page.keys, more);
  constexpr std::size_t kSortedBeforeFlags = 4;
  for (std::size_t i = 0; i < kSorts.size(); ++i) {
    if (i == kSortedBeforeFlags) body += "<th>flags</th><th>ver</th><th>app</th>";
    body += heading(query, kSorts[i]);
  }
  body += "</tr>\n";
  for (const auto& entry : page.entries) body += row(status, *entry.client);
  body += "</table>\n" + more;
  return html_response("DERP clients: " + escape_html(description(query)), std::move(body));
}

}  // namespace

http::Response answer_clients(const http::Request& request, const RelayStatus& status) {
  Query query;
  if (const auto problem = read_query(request.query, status, query))
    return http::text_error(400, *problem);
  http::Response response =
      has_filter(query) ? list_page(status, query) : index_page(status, query.json);
  add_debug_headers(response);
  return response;
}

}  // namespace detour::admin
