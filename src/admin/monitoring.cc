#include "admin/monitoring.h"

#include <utility>

#include "admin/page_access.h"
#include "admin/status_page.h"

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

[[nodiscard]] Response answer_metrics(const Request& request, const Monitoring& monitoring) {
  if (!monitoring.token.empty() && !has_bearer_token(request, monitoring.token))
    return text_error(401, "a bearer token is needed").with("WWW-Authenticate", "Bearer");
  Response response{.status = 200, .headers = {}, .body = monitoring.render_metrics()};
  response.with("Content-Type", "text/plain; version=0.0.4; charset=utf-8");
  return response;
}

[[nodiscard]] Response verdict(const std::optional<std::string>& problem) {
  return problem ? plain(503, *problem + "\n") : plain(200, "ok\n");
}

}  // namespace

Response answer_monitoring(const Request& request, std::string_view peer_ip,
                           const Monitoring& monitoring) {
  if (request.method != "GET" && request.method != "HEAD")
    return text_error(405, "only GET and HEAD").with("Allow", "GET, HEAD");
  if (request.path == "/metrics") return answer_metrics(request, monitoring);
  if (request.path == "/healthz") return verdict(monitoring.unhealthy());
  if (request.path == "/readyz") {
    const auto unhealthy = monitoring.unhealthy();
    return verdict(unhealthy ? unhealthy : monitoring.unready());
  }
  const PageCall call{.request = request, .peer_ip = peer_ip, .token = monitoring.token};
  if (request.path == "/" || request.path == "/status") {
    auto refusal = refuse_page(call);
    return refusal ? std::move(*refusal) : status_page();
  }
  if (request.path == "/status.json") {
    auto refusal = refuse_page_data(call);
    return refusal ? std::move(*refusal) : monitoring.answer_page_data(request);
  }
  return text_error(404, "there is /metrics, /healthz, /readyz and / (the status page)");
}

}  // namespace detour::admin
