#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "admin/debug_access.h"
#include "admin/map_page.h"
#include "http/message.h"

/// What each HTTP request gets (docs/operations.md, HTTP endpoints). Pure: values in, values out.
namespace detour::admin {

enum class Listener : std::uint8_t {
  kMainTls,
  kMainPlain,  ///< The main listener without TLS.
  kHttpPort,   ///< The plain HTTP port beside TLS.
};

enum class Home : std::uint8_t { kDefault, kBlank, kRedirect };

/// What a relay answers with: set up once, read from any thread.
struct Site {
  bool derp_enabled = true;
  Home home = Home::kDefault;
  std::string home_url;  ///< Where kRedirect leads.

  DebugAccess debug_access;
  MapPage map;
  std::string hostname;  ///< Name in the certificate; empty without TLS.
  std::string machine;   ///< Host name of the machine.
  std::string version;

  /// Content for a token below /.well-known/acme-challenge/, when certificates are ordered; not set
  /// otherwise. Called on the thread that asks.
  std::function<std::optional<std::string>(std::string_view token)> acme_challenge;
  /// When not empty, requests for challenges have to name this host.
  std::string acme_host;

  // Called for debug pages and bootstrap DNS, on the thread that asks for them. All must be set.
  std::function<bool()> has_mesh_key;
  std::function<std::string()> render_prometheus;
  std::function<std::string()> render_expvar_json;
  std::function<std::chrono::seconds()> uptime;
  /// What is wrong with the relay's books; empty = nothing.
  std::function<std::string()> find_inconsistencies;
  /// The body of /bootstrap-dns for this `q` (empty = none) from this address.
  std::function<std::string(std::string_view query, std::string_view peer_ip)> bootstrap_dns;
};

/// Where one request came from.
struct Origin {
  Listener listener;
  std::string_view peer_ip;  ///< Address of the client as text, without port.
  /// A trusted proxy named it in X-Forwarded-For; otherwise it is that of the connection.
  bool forwarded = false;
};

/// A request that turns its connection into a DERP stream.
struct DerpUpgrade {
  bool fast_start = false;   ///< The client waits for no HTTP answer, so none may be sent.
  std::string ideal_node{};  ///< The node the client would rather have reached; empty = this one.
  /// The stream goes inside a WebSocket, which begins with this head of the answer; else empty.
  std::string websocket_head{};
  /// Of a WebSocket: the client speaks DERP in it. If not, it is closed at once.
  bool websocket_speaks_derp = true;
};

/// Whether `request` asks for DERP and may have it. If not, route() has the answer.
///
/// Only path and Upgrade header count: neither method nor Connection header, as in the reference.
/// `Upgrade: websocket` without the subprotocol `derp` means DERP too: clients of 2020 say it so.
/// With it, it is a WebSocket, whose handshake has to be right.
[[nodiscard]] std::optional<DerpUpgrade> derp_upgrade(const http::Request& request,
                                                      const Site& site, Listener listener);

/// Pages that cannot be answered at once, since they need a picture of the relay.
enum class SlowPage : std::uint8_t { kClients, kTraffic };

/// Whether `request` asks for such a page and may have it. If not, route() has the answer.
[[nodiscard]] std::optional<SlowPage> slow_page(const http::Request& request, const Site& site,
                                                const Origin& origin);

/// Adds the headers that every debug page has.
void add_debug_headers(http::Response& response);

/// The answer to any request that derp_upgrade() and slow_page() do not take.
[[nodiscard]] http::Response route(const http::Request& request, const Site& site,
                                   const Origin& origin);

}  // namespace detour::admin
