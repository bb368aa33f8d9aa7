#include "admin/page_access.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "admin/constant_time.h"
#include "admin/debug_access.h"

namespace detour::admin {
namespace {

using http::Request;
using http::Response;

/// What proxies add: who asks through one is not known, wherever the proxy runs.
constexpr std::array<std::string_view, 5> kProxyHeaders = {"X-Forwarded-For", "X-Forwarded-Host",
                                                           "X-Real-IP", "Forwarded", "Via"};

/// "127.0.0.1:9090", "[::1]:9090", "localhost": without the port and brackets.
[[nodiscard]] std::string_view host_of(std::string_view host) {
  if (host.starts_with('[')) {
    const std::size_t end = host.find(']');
    const auto rest = host.substr(std::min(end, host.size() - 1) + 1);
    const bool is_whole = end != std::string_view::npos && (rest.empty() || rest[0] == ':');
    return is_whole ? host.substr(1, end - 1) : std::string_view();
  }
  return host.substr(0, host.find(':'));
}

/// Whether no name server had a say in where the browser went: a name of somebody else's may lead
/// here (DNS rebinding), and that site's scripts then count as the page's own.
[[nodiscard]] bool is_named_safely(const Request& request) {
  const std::string_view host = host_of(request.header("Host"));
  return http::equals_ignoring_case(host, "localhost") || parse_ip(host).has_value();
}

/// Whether the request is another site's doing, as browsers tell.
[[nodiscard]] bool is_from_elsewhere(const Request& request) {
  if (request.has_header("Sec-Fetch-Site")) {
    const std::string_view site = request.header("Sec-Fetch-Site");
    if (site != "same-origin" && site != "none") return true;
  }
  if (!request.has_header("Origin")) return false;
  std::string_view origin = request.header("Origin");
  const std::size_t scheme = origin.find("://");
  if (scheme == std::string_view::npos) return true;  // "null": no site that we know.
  origin.remove_prefix(scheme + 3);
  return !http::equals_ignoring_case(origin, request.header("Host"));
}

[[nodiscard]] Response refused(unsigned status, std::string_view text) {
  return http::text_error(status, text).with("Cache-Control", "no-store");
}

[[nodiscard]] std::optional<Response> refuse_strangers(const PageCall& call) {
  const auto ip = parse_ip(call.peer_ip);
  const bool is_proxied = std::ranges::any_of(
      kProxyHeaders, [&call](std::string_view name) { return call.request.has_header(name); });
  if (!ip || !is_loopback(*ip) || is_proxied)
    return refused(
        403, fmt::format("Without a token the status page is for this machine alone, and {}. Set "
                         "--metrics-token-file, or come through an SSH tunnel: ssh -L "
                         "9090:127.0.0.1:9090 RELAY, then open http://127.0.0.1:9090/ (with the "
                         "port of --metrics-listen).",
                         is_proxied ? std::string("this request came through a proxy")
                                    : fmt::format("you come from {}", call.peer_ip)));
  if (!is_named_safely(call.request))
    return refused(403,
                   "Without a token the status page answers to an IP address or localhost in the "
                   "browser's address bar, and to no other name, since names can be made to lead "
                   "here by others. Open http://127.0.0.1:PORT/, or set --metrics-token-file.");
  return std::nullopt;
}

}  // namespace

bool has_bearer_token(const Request& request, std::string_view token) {
  constexpr std::string_view kScheme = "Bearer ";
  const std::string_view given = request.header("Authorization");
  return given.size() > kScheme.size() &&
         http::equals_ignoring_case(given.substr(0, kScheme.size()), kScheme) &&
         equal_in_constant_time(given.substr(kScheme.size()), token);
}

std::optional<Response> refuse_page(const PageCall& call) {
  return call.token.empty() ? refuse_strangers(call) : std::nullopt;
}

std::optional<Response> refuse_page_data(const PageCall& call) {
  if (auto refusal = refuse_page(call)) return refusal;
  if (is_from_elsewhere(call.request))
    return refused(403, "This is for the status page itself, not for other sites.");
  if (!call.token.empty() && !has_bearer_token(call.request, call.token))
    return refused(401, "A bearer token is needed: the one in the file of --metrics-token-file.")
        .with("WWW-Authenticate", "Bearer");
  return std::nullopt;
}

}  // namespace detour::admin
