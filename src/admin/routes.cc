#include "admin/routes.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "admin/pages.h"
#include "admin/query.h"
#include "base/check.h"
#include "http/websocket.h"

namespace detour::admin {
namespace {

using http::Request;
using http::Response;
using http::text_error;

constexpr std::string_view kPlainText = "text/plain; charset=utf-8";
constexpr std::string_view kHtml = "text/html; charset=utf-8";
constexpr std::string_view kJson = "application/json; charset=utf-8";

constexpr std::string_view kDerpPath = "/derp";
constexpr std::string_view kWebSocketProtocol = "derp";
constexpr std::string_view kDebugPath = "/debug";
constexpr std::string_view kClientsPath = "/debug/clients";
constexpr std::string_view kTrafficPath = "/debug/traffic";
constexpr std::string_view kAcmeChallengePath = "/.well-known/acme-challenge/";
constexpr std::string_view kGenerate204Path = "/generate_204";

constexpr std::string_view kContentSecurityPolicy =
    "default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'self'; "
    "block-all-mixed-content; object-src 'none'";

[[nodiscard]] std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return result;
}

/// Debug pages bring their own style.
constexpr std::string_view kDebugPolicy = "; style-src 'self' 'unsafe-inline'";

/// The headers of every page that a browser may show.
void add_browser_headers(Response& response, std::string_view more_policy = "") {
  const bool is_error = std::ranges::any_of(
      response.headers, [](const auto& field) { return field.first == "X-Content-Type-Options"; });
  if (!is_error) response.with("X-Content-Type-Options", "nosniff");
  response
      .with("Content-Security-Policy",
            std::string(kContentSecurityPolicy) + std::string(more_policy))
      .with("Strict-Transport-Security", "max-age=63072000; includeSubDomains")
      .with("X-Frame-Options", "DENY");
}

[[nodiscard]] Response page(std::string_view content_type, std::string body) {
  Response response{.status = 200, .headers = {}, .body = std::move(body)};
  response.with("Content-Type", std::string(content_type));
  return response;
}

/// A redirect with the little page that Go's server adds for GET. `location` may hold any bytes.
[[nodiscard]] Response redirect(unsigned status, std::string_view location,
                                const Request& request) {
  std::string escaped;
  for (const char c : location) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte > 0x7f) {
      escaped += fmt::format("%{:02x}", byte);
    } else {
      escaped += c;
    }
  }
  Response response{.status = status, .headers = {}, .body = ""};
  if (request.method == "HEAD") response.with("Content-Type", std::string(kHtml));
  if (request.method == "GET") {
    response.with("Content-Type", std::string(kHtml));
    response.body = fmt::format("<a href=\"{}\">{}</a>.\n\n", escape_html(escaped),
                                http::reason_phrase(status));
  }
  response.with("Location", std::move(escaped));
  return response;
}

/// The path as it was sent, undecoded.
[[nodiscard]] std::string_view raw_path(const Request& request) {
  const std::string_view target = request.target;
  if (!target.starts_with('/')) return request.path;  // Absolute form.
  return target.substr(0, target.find('?'));
}

/// Without `.`, `..` and empty segments. Keeps a slash at the end.
[[nodiscard]] std::string clean_path(std::string_view path) {
  std::string clean = "/";
  for (std::string_view rest = path; !rest.empty();) {
    const std::size_t end = std::min(rest.find('/'), rest.size());
    const std::string_view segment = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));

    if (segment.empty() || segment == ".") continue;
    if (segment == "..") {
      // "/a/b/" to "/a/"; "/" stays.
      if (clean.size() > 1) clean.erase(clean.rfind('/', clean.size() - 2) + 1);
      continue;
    }
    clean += segment;
    clean += '/';
  }
  if (clean.size() > 1 && !path.ends_with('/')) clean.pop_back();
  return clean;
}

/// Where a request is sent whose path is not clean, or is /debug without the slash: Go's rule.
[[nodiscard]] std::optional<std::string> cleaned_location(const Request& request) {
  const std::string_view path = raw_path(request);
  std::string clean = clean_path(path);
  if (clean == kDebugPath || clean == kClientsPath) clean += '/';
  if (clean == path) return std::nullopt;
  if (!request.query.empty()) clean += "?" + request.query;
  return clean;
}

/// 1 to 64 of the characters that host names, addresses and the prefix `ts_` consist of.
[[nodiscard]] bool is_challenge(std::string_view text) {
  constexpr std::size_t kSizeMax = 64;
  const auto allowed = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
           c == '-' || c == '_' || c == ':';
  };
  return !text.empty() && text.size() <= kSizeMax && std::ranges::all_of(text, allowed);
}

/// For clients that look for a captive portal: a portal cannot know the answer to the challenge.
[[nodiscard]] Response answer_generate_204(const Request& request) {
  Response response{.status = 204, .headers = {}, .body = ""};
  response.with("Cache-Control", "no-cache, no-store, must-revalidate, no-transform, max-age=0");
  const auto challenge = request.header("X-Tailscale-Challenge");
  if (is_challenge(challenge)) {
    response.with("X-Tailscale-Response", "response " + std::string(challenge));
  }
  return response;
}

/// For latency measurements over HTTPS, also from browsers on other sites.
[[nodiscard]] Response answer_probe(const Request& request) {
  if (request.method != "GET" && request.method != "HEAD") {
    return text_error(405, "bogus probe method");
  }
  Response response;
  response.with("Access-Control-Allow-Origin", "*");
  return response;
}

[[nodiscard]] bool is_websocket_for_derp(const Request& request) {
  return lower(request.header("Upgrade")) == "websocket" &&
         request.header("Sec-WebSocket-Protocol").find("derp") != std::string_view::npos;
}

/// A request for /derp that does not become a DERP stream.
[[nodiscard]] Response refuse_derp(const Request& request, const Site& site) {
  if (!site.derp_enabled) return text_error(404, "derp server disabled");
  if (is_websocket_for_derp(request)) {
    return http::accept_websocket(request, kWebSocketProtocol).response;
  }
  return text_error(426, "DERP requires connection upgrade");
}

[[nodiscard]] Response answer_robots() {
  Response response = page(kPlainText, "User-agent: *\nDisallow: /\n");
  add_browser_headers(response);
  return response;
}

[[nodiscard]] Response answer_bootstrap_dns(const Request& request, const Site& site,
                                            const Origin& origin) {
  DETOUR_CHECK(site.bootstrap_dns);
  const std::string query = query_value(request.query, "q").value_or("");
  Response response = page("application/json", site.bootstrap_dns(query, origin.peer_ip));
  add_browser_headers(response);
  // Clients ask relays of all regions in turn, once each.
  response.close = true;
  return response;
}

/// Whether what the relay counts and what it lists agree.
[[nodiscard]] Response answer_check(const Site& site) {
  const std::string problems = site.find_inconsistencies();
  if (!problems.empty()) return text_error(500, problems);
  return page(kPlainText, "derp.Server ConsistencyCheck okay");
}

[[nodiscard]] Response answer_home(const Request& request, const Site& site, const Origin& origin) {
  Response response;
  switch (site.home) {
    case Home::kDefault:
      response = page(kHtml, render_home_page(site.derp_enabled,
                                              site.debug_access.allows(request, origin.peer_ip,
                                                                       origin.forwarded)));
      break;
    case Home::kBlank:
      response = page(kHtml, "");
      break;
    case Home::kRedirect:
      response = redirect(302, site.home_url, request);
      break;
  }
  add_browser_headers(response);
  return response;
}

[[nodiscard]] Response answer_debug(const Request& request, const Site& site,
                                    const Origin& origin) {
  if (!site.debug_access.allows(request, origin.peer_ip, origin.forwarded)) {
    return text_error(403, "debug access denied");
  }
  DETOUR_CHECK(site.has_mesh_key && site.uptime && site.render_expvar_json &&
               site.render_prometheus && site.find_inconsistencies);
  Response response;
  std::string_view more_policy = kDebugPolicy;
  if (request.path == "/debug/") {
    response = page(kHtml, render_debug_index({.uptime = site.uptime(),
                                               .version = site.version,
                                               .machine = site.machine,
                                               .hostname = site.hostname,
                                               .has_mesh_key = site.has_mesh_key()}));
    more_policy = "";
  } else if (request.path == "/debug/vars") {
    response = page(kJson, site.render_expvar_json());
  } else if (request.path == "/debug/varz") {
    response = page(kPlainText, site.render_prometheus());
  } else if (request.path == "/debug/check") {
    response = answer_check(site);
  } else {
    return text_error(404, "404 page not found");
  }
  add_browser_headers(response, more_policy);
  return response;
}

/// The main listener, and what the HTTP port passes on to it.
[[nodiscard]] Response route_main(const Request& request, const Site& site, const Origin& origin) {
  if (const auto location = cleaned_location(request)) return redirect(307, *location, request);

  const std::string_view path = request.path;
  if (path == kDerpPath) return refuse_derp(request, site);
  if (path == "/derp/probe" || path == "/derp/latency-check") return answer_probe(request);
  if (path == kGenerate204Path) return answer_generate_204(request);
  if (path == "/robots.txt") return answer_robots();
  if (path == "/bootstrap-dns") return answer_bootstrap_dns(request, site, origin);
  if (site.map.takes(request)) return answer_map(request, site.map);
  if (path.starts_with("/debug/")) return answer_debug(request, site, origin);
  return answer_home(request, site, origin);
}

/// For the certificate authority that looks whether this host is ours (HTTP-01).
[[nodiscard]] Response answer_acme_challenge(const Request& request, const Site& site) {
  std::string_view host = request.header("Host");
  if (!host.starts_with('[')) host = host.substr(0, host.find(':'));
  if (!site.acme_host.empty() && lower(host) != site.acme_host)
    return text_error(403, "this relay orders no certificate for that host");
  const auto content =
      site.acme_challenge(std::string_view(request.path).substr(kAcmeChallengePath.size()));
  if (!content) return text_error(404, "no such challenge");
  return page(kPlainText, *content);
}

/// The plain HTTP port: captive-portal checks and metrics; everything else belongs on HTTPS.
[[nodiscard]] Response route_http_port(const Request& request, const Site& site,
                                       const Origin& origin) {
  if (std::string_view(request.target).starts_with(kDebugPath)) {
    return route_main(request, site, origin);
  }
  if (const auto location = cleaned_location(request)) return redirect(307, *location, request);
  if (request.path == kGenerate204Path) return answer_generate_204(request);
  // Without TLS only to callers whom nobody can lie to on the way: this machine, and Tailscale.
  if (site.map.takes(request) &&
      site.debug_access.allows(request, origin.peer_ip, origin.forwarded))
    return answer_map(request, site.map);
  if (site.acme_challenge && request.path.starts_with(kAcmeChallengePath))
    return answer_acme_challenge(request, site);
  if (request.method != "GET" && request.method != "HEAD") return text_error(400, "Use HTTPS");

  // derper makes "https://HOSThttp://HOST/" of the absolute form, which leads nowhere.
  const std::size_t scheme_end = request.target.find("://");
  if (!request.target.starts_with('/') && scheme_end != std::string::npos)
    return redirect(302, "https" + request.target.substr(scheme_end), request);
  std::string target = request.target;
  if (target == "/" && site.debug_access.allows(request, origin.peer_ip, origin.forwarded))
    target = "/debug/";
  // HTTP/1.0 may come without a Host; then the name in the certificate is the best guess.
  std::string_view host = request.header("Host");
  if (host.empty()) host = site.hostname;
  return redirect(302, fmt::format("https://{}{}", host, target), request);
}

}  // namespace

std::optional<DerpUpgrade> derp_upgrade(const Request& request, const Site& site,
                                        Listener listener) {
  const bool asks_here = listener != Listener::kHttpPort && request.path == kDerpPath;
  if (!asks_here || !site.derp_enabled) return std::nullopt;

  const std::string upgrade = lower(request.header("Upgrade"));
  if (is_websocket_for_derp(request)) {
    auto handshake = http::accept_websocket(request, kWebSocketProtocol);
    if (!handshake.accepted) return std::nullopt;
    return DerpUpgrade{.fast_start = false,
                       .ideal_node = {},
                       .websocket_head = std::move(handshake.head),
                       .websocket_speaks_derp = !handshake.subprotocol.empty()};
  }
  if (upgrade != "derp" && upgrade != "websocket") return std::nullopt;
  return DerpUpgrade{.fast_start = request.header("Derp-Fast-Start") == "1",
                     .ideal_node = std::string(request.header("Ideal-Node"))};
}

std::optional<SlowPage> slow_page(const Request& request, const Site& site, const Origin& origin) {
  std::optional<SlowPage> page;
  if (request.path == kTrafficPath) page = SlowPage::kTraffic;
  if (request.path == std::string(kClientsPath) + "/") page = SlowPage::kClients;
  if (!page || request.method == "CONNECT" || cleaned_location(request) ||
      !site.debug_access.allows(request, origin.peer_ip, origin.forwarded))
    return std::nullopt;
  return page;
}

void add_debug_headers(Response& response) {
  add_browser_headers(response, kDebugPolicy);
}

Response route(const Request& request, const Site& site, const Origin& origin) {
  if (request.method == "CONNECT") {
    if (origin.listener == Listener::kMainTls) return text_error(403, "CONNECT not enabled");
    return text_error(404, "404 page not found");
  }
  if (request.target == "*") return {};  // OPTIONS: about the server, which has nothing to say.
  if (origin.listener == Listener::kHttpPort) return route_http_port(request, site, origin);
  return route_main(request, site, origin);
}

}  // namespace detour::admin
