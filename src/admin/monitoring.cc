#include "admin/monitoring.h"

#include <string_view>
#include <utility>

#include "admin/constant_time.h"

namespace detour::admin {
namespace {

using http::Request;
using http::Response;
using http::text_error;

[[nodiscard]] Response plain(unsigned status, std::string body) {
  Response response{.status = status, .headers = {}, .body = std::move(body)};
  response.with("Cache-Control", "no-store").with("Content-Type", "text/plain; charset=utf-8");
  return response;
}

[[nodiscard]] bool may_read_metrics(const Request& request, const std::string& token) {
  if (token.empty()) return true;
  constexpr std::string_view kScheme = "Bearer ";
  const std::string_view given = request.header("Authorization");
  return given.size() > kScheme.size() &&
         http::equals_ignoring_case(given.substr(0, kScheme.size()), kScheme) &&
         equal_in_constant_time(given.substr(kScheme.size()), token);
}

[[nodiscard]] Response answer_metrics(const Request& request, const Monitoring& monitoring) {
  if (!may_read_metrics(request, monitoring.token))
    return text_error(401, "a bearer token is needed").with("WWW-Authenticate", "Bearer");
  Response response{.status = 200, .headers = {}, .body = monitoring.render_metrics()};
  response.with("Content-Type", "text/plain; version=0.0.4; charset=utf-8");
  return response;
}

[[nodiscard]] Response verdict(const std::optional<std::string>& problem) {
  return problem ? plain(503, *problem + "\n") : plain(200, "ok\n");
}

}  // namespace

Response answer_monitoring(const Request& request, const Monitoring& monitoring) {
  if (request.method != "GET" && request.method != "HEAD")
    return text_error(405, "only GET and HEAD").with("Allow", "GET, HEAD");
  if (request.path == "/metrics") return answer_metrics(request, monitoring);
  if (request.path == "/healthz") return verdict(monitoring.unhealthy());
  if (request.path == "/readyz") {
    const auto unhealthy = monitoring.unhealthy();
    return verdict(unhealthy ? unhealthy : monitoring.unready());
  }
  return text_error(404, "there is /metrics, /healthz and /readyz");
}

}  // namespace detour::admin
