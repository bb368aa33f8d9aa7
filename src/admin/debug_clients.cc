#include "admin/debug_clients.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <chrono>
#include <string>
#include <utility>

#include "admin/client_query.h"
#include "admin/pages.h"
#include "admin/query.h"
#include "admin/routes.h"

namespace detour::admin {
namespace {

using nlohmann::ordered_json;

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

std::string heading(const ClientQuery& query, const ClientColumn& column) {
  // A click on the column that it is sorted by turns it round; counters begin with the most.
  const bool is_this = column.sort == query.sort;
  const bool descends = is_this ? !query.descending : column.is_counter();
  return fmt::format("<th><a href=\"{}\">{}</a>{}</th>",
                     escape_html(query.link((descends ? "-" : "") + std::string(column.name))),
                     column.heading,
                     !is_this           ? ""
                     : query.descending ? " ▼"
                                        : " ▲");
}

http::Response list_page(const RelayStatus& status, const ClientQuery& query) {
  const ClientPage page = ClientPage::make(query, status);
  const std::string next = page.next_link(query);
  if (query.json) {
    ordered_json clients = ordered_json::array();
    for (const auto& entry : page.entries) clients.push_back(json_of(status, *entry.client));
    ordered_json whole = {{"query", query.description()},
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
  for (std::size_t i = 0; i < kClientColumns.size(); ++i) {
    if (i == kSortedBeforeFlags) body += "<th>flags</th><th>ver</th><th>app</th>";
    body += heading(query, kClientColumns[i]);
  }
  body += "</tr>\n";
  for (const auto& entry : page.entries) body += row(status, *entry.client);
  body += "</table>\n" + more;
  return html_response("DERP clients: " + escape_html(query.description()), std::move(body));
}

}  // namespace

http::Response answer_clients(const http::Request& request, const RelayStatus& status) {
  const auto query = ClientQuery::parse(request.query, status);
  if (!query) return http::text_error(400, query.error());
  http::Response response =
      query->has_filter() ? list_page(status, *query) : index_page(status, query->json);
  add_debug_headers(response);
  return response;
}

}  // namespace detour::admin
