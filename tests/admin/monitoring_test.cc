#include "admin/monitoring.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "admin/status_page.h"

namespace detour::admin {
namespace {

Monitoring healthy() {
  return {.token = "",
          .render_metrics = [] { return std::string("a_metric 1\n"); },
          .unhealthy = [] { return std::nullopt; },
          .unready = [] { return std::nullopt; },
          .answer_page_data =
              [](const http::Request&) {
                return http::Response{.status = 200, .headers = {}, .body = "{}\n"};
              }};
}

http::Response ask(const Monitoring& monitoring, std::string path, std::string authorization = "",
                   std::string method = "GET", std::string_view peer = "127.0.0.1") {
  http::Request request;
  request.headers.emplace_back("Host", "127.0.0.1:9090");
  request.method = std::move(method);
  request.target = path;
  request.path = std::move(path);
  if (!authorization.empty()) request.headers.emplace_back("authorization", authorization);
  return answer_monitoring(request, peer, monitoring);
}

std::string header(const http::Response& response, std::string_view name) {
  for (const auto& [key, value] : response.headers)
    if (key == name) return value;
  return {};
}

TEST(Monitoring, AnswersItsPathsAndNothingElse) {
  struct Case {
    std::string path;
    std::string method;
    unsigned status;
    std::string body;
  };
  const Case kCases[] = {
      {"/metrics", "GET", 200, "a_metric 1\n"},
      {"/metrics", "HEAD", 200, "a_metric 1\n"},  // Left out when it is sent.
      {"/healthz", "GET", 200, "ok\n"},
      {"/readyz", "GET", 200, "ok\n"},
      {"/metrics", "POST", 405, "only GET and HEAD\n"},
      {"/healthz", "DELETE", 405, "only GET and HEAD\n"},
      {"/status.json", "GET", 200, "{}\n"},
      {"/status.json", "POST", 405, "only GET and HEAD\n"},
      {"/metrics/", "GET", 404, "there is /metrics, /healthz, /readyz and / (the status page)\n"},
      {"/derp", "GET", 404, "there is /metrics, /healthz, /readyz and / (the status page)\n"},
      {"/debug/varz", "GET", 404, "there is /metrics, /healthz, /readyz and / (the status page)\n"},
  };
  for (const auto& [path, method, status, body] : kCases) {
    SCOPED_TRACE(method + " " + path);
    const auto response = ask(healthy(), path, "", method);
    EXPECT_EQ(response.status, status);
    EXPECT_EQ(response.body, body);
  }
  EXPECT_EQ(header(ask(healthy(), "/metrics"), "Content-Type"),
            "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_EQ(header(ask(healthy(), "/readyz"), "Cache-Control"), "no-store");
  EXPECT_EQ(header(ask(healthy(), "/readyz", "", "POST"), "Allow"), "GET, HEAD");
}

TEST(Monitoring, AsksForTheTokenForMetricsAlone) {
  auto guarded = healthy();
  guarded.token = "secret";
  struct Case {
    std::string authorization;
    unsigned status;
  };
  const Case kCases[] = {
      {"Bearer secret", 200},  {"bearer secret", 200},  {"", 401},
      {"Bearer", 401},         {"Bearer ", 401},        {"Bearer secre", 401},
      {"Bearer secrets", 401}, {"Bearer Secret", 401},  {"Basic secret", 401},
      {"secret", 401},         {"Bearer  secret", 401},
  };
  for (const auto& [authorization, status] : kCases) {
    SCOPED_TRACE(authorization);
    const auto response = ask(guarded, "/metrics", authorization);
    EXPECT_EQ(response.status, status);
    if (status == 401) {
      EXPECT_EQ(header(response, "WWW-Authenticate"), "Bearer");
      EXPECT_EQ(response.body.find("metric"), std::string::npos);
    }
  }
  EXPECT_EQ(ask(guarded, "/healthz").status, 200U);
  EXPECT_EQ(ask(guarded, "/readyz").status, 200U);
}

TEST(Monitoring, ServesThePageToThoseWhoMayHaveIt) {
  for (const std::string path : {"/", "/status"}) {
    EXPECT_EQ(ask(healthy(), path).status, 200U);
    EXPECT_EQ(ask(healthy(), path).body, status_page_html());
    EXPECT_EQ(ask(healthy(), path, "", "GET", "192.0.2.1").status, 403U);
  }
  EXPECT_EQ(ask(healthy(), "/status.json", "", "GET", "192.0.2.1").status, 403U);
  EXPECT_EQ(ask(healthy(), "/metrics", "", "GET", "192.0.2.1").status, 200U) << "as ever";

  auto guarded = healthy();
  guarded.token = "secret";
  EXPECT_EQ(ask(guarded, "/", "", "GET", "192.0.2.1").status, 200U) << "it asks for the token";
  EXPECT_EQ(ask(guarded, "/status.json", "", "GET", "192.0.2.1").status, 401U);
  EXPECT_EQ(ask(guarded, "/status.json").status, 401U) << "on the relay's machine, too";
  EXPECT_EQ(ask(guarded, "/status.json", "Bearer secret", "GET", "192.0.2.1").status, 200U);
}

TEST(Monitoring, SaysWhatIsWrong) {
  auto busy = healthy();
  busy.unready = [] { return std::optional<std::string>("no descriptors"); };
  EXPECT_EQ(ask(busy, "/healthz").status, 200U);
  EXPECT_EQ(ask(busy, "/readyz").status, 503U);
  EXPECT_EQ(ask(busy, "/readyz").body, "no descriptors\n");

  busy.unhealthy = [] { return std::optional<std::string>("worker 1 hangs"); };
  EXPECT_EQ(ask(busy, "/healthz").status, 503U);
  EXPECT_EQ(ask(busy, "/healthz").body, "worker 1 hangs\n");
  EXPECT_EQ(ask(busy, "/readyz").body, "worker 1 hangs\n");
}

}  // namespace
}  // namespace detour::admin
