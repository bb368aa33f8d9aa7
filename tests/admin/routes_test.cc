#include "admin/routes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"

namespace detour::admin {
namespace {

using http::Request;
using http::Response;

constexpr std::string_view kPolicy =
    "default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'self'; "
    "block-all-mixed-content; object-src 'none'";
constexpr std::string_view kNoCache =
    "no-cache, no-store, must-revalidate, no-transform, max-age=0";
constexpr std::string_view kLoopback = "127.0.0.1";
constexpr std::string_view kStranger = "203.0.113.7";

Site site() {
  Site site;
  site.hostname = "derp1.example.com";
  site.machine = "vm";
  site.version = "0.1.0";
  site.render_prometheus = [] { return std::string("derp_accepts 0\n"); };
  site.render_expvar_json = [] { return std::string("{\"derp\": {}}\n"); };
  site.has_mesh_key = [] { return true; };
  site.find_inconsistencies = [] { return std::string(); };
  site.bootstrap_dns = [](std::string_view query, std::string_view peer_ip) {
    return "asked for '" + std::string(query) + "' by " + std::string(peer_ip);
  };
  site.uptime = [] { return std::chrono::seconds(61); };
  return site;
}

/// Through the parser, so that path and query are what they will be.
Request request_of(std::string_view method, std::string_view target,
                   std::string_view more_headers = "") {
  const std::string head = std::string(method) + " " + std::string(target) +
                           " HTTP/1.1\r\nHost: derp1.example.com\r\n" + std::string(more_headers) +
                           "\r\n";
  const auto parsed = http::parse_request(as_bytes(head));
  EXPECT_TRUE(parsed && *parsed) << head;
  if (!parsed || !*parsed) return {};
  return (*parsed)->request;
}

std::string header(const Response& response, std::string_view name) {
  std::string found;
  for (const auto& [own_name, value] : response.headers) {
    if (!http::equals_ignoring_case(own_name, name)) continue;
    EXPECT_EQ(found, "") << name << " comes twice";
    found = value;
  }
  return found;
}

bool has_browser_headers(const Response& response) {
  return header(response, "Content-Security-Policy").starts_with(kPolicy) &&
         header(response, "Strict-Transport-Security") == "max-age=63072000; includeSubDomains" &&
         header(response, "X-Content-Type-Options") == "nosniff" &&
         header(response, "X-Frame-Options") == "DENY";
}

Response get(std::string_view target, std::string_view more_headers = "",
             Listener listener = Listener::kMainTls, std::string_view peer_ip = kLoopback) {
  return route(request_of("GET", target, more_headers), site(), {listener, peer_ip});
}

// Each row was tried against derper v1.102.5.
TEST(Route, AnswersOnTheMainListenerAsDerperDoes) {
  struct Case {
    std::string_view name;
    std::string_view method;
    std::string_view target;
    unsigned status;
    std::string_view content_type;
    bool browser_headers;
    std::string_view body;  ///< What it contains, or all of it when it ends in a newline.
  };
  constexpr std::string_view kText = "text/plain; charset=utf-8";
  constexpr std::string_view kHtml = "text/html; charset=utf-8";
  constexpr Case kCases[] = {
      {"home", "GET", "/", 200, kHtml, true, "<h1>DERP</h1>"},
      {"home by POST", "POST", "/", 200, kHtml, true, "<h1>DERP</h1>"},
      {"unknown path", "GET", "/nope", 200, kHtml, true, "<h1>DERP</h1>"},
      {"below derp", "GET", "/derp/", 200, kHtml, true, "<h1>DERP</h1>"},
      {"below generate_204", "GET", "/generate_204/", 200, kHtml, true, "<h1>DERP</h1>"},
      {"like debug", "GET", "/debugfoo", 200, kHtml, true, "<h1>DERP</h1>"},
      {"robots", "GET", "/robots.txt", 200, kText, true, "User-agent: *\nDisallow: /\n"},
      {"derp without upgrade", "GET", "/derp", 426, kText, false,
       "DERP requires connection upgrade\n"},
      {"derp by POST", "POST", "/derp", 426, kText, false, "DERP requires connection upgrade\n"},
      {"derp escaped", "GET", "/%64erp", 426, kText, false, "DERP requires connection upgrade\n"},
      {"probe", "GET", "/derp/probe", 200, "", false, ""},
      {"probe by HEAD", "HEAD", "/derp/probe?x", 200, "", false, ""},
      {"latency check", "GET", "/derp/latency-check", 200, "", false, ""},
      {"probe by POST", "POST", "/derp/probe", 405, kText, false, "bogus probe method\n"},
      {"probe by OPTIONS", "OPTIONS", "/derp/latency-check", 405, kText, false,
       "bogus probe method\n"},
      {"CONNECT", "CONNECT", "a:443", 403, kText, false, "CONNECT not enabled\n"},
      {"OPTIONS *", "OPTIONS", "*", 200, "", false, ""},
      {"debug index", "GET", "/debug/", 200, kHtml, true, "1m1s"},
      {"metrics", "GET", "/debug/varz", 200, kText, true, "derp_accepts 0\n"},
      {"metrics as JSON", "GET", "/debug/vars", 200, "application/json; charset=utf-8", true,
       "{\"derp\": {}}\n"},
      {"unknown debug page", "GET", "/debug/nope", 404, kText, false, "404 page not found\n"},
      {"slash behind", "GET", "/debug/vars/", 404, kText, false, "404 page not found\n"},
  };
  for (const auto& row : kCases) {
    SCOPED_TRACE(row.name);
    const Response response =
        route(request_of(row.method, row.target), site(), {Listener::kMainTls, kLoopback});
    EXPECT_EQ(response.status, row.status);
    EXPECT_EQ(header(response, "Content-Type"), row.content_type);
    EXPECT_EQ(has_browser_headers(response), row.browser_headers);
    if (row.body.ends_with('\n')) {
      EXPECT_EQ(response.body, row.body);
    } else if (row.body.empty()) {
      EXPECT_EQ(response.body, "");
    } else {
      EXPECT_TRUE(response.body.contains(row.body)) << response.body;
    }
  }
}

TEST(Route, LetsBrowsersOnOtherSitesProbe) {
  EXPECT_EQ(header(get("/derp/probe"), "Access-Control-Allow-Origin"), "*");
  auto disabled = site();
  disabled.derp_enabled = false;
  const Response response =
      route(request_of("GET", "/derp/latency-check"), disabled, {Listener::kMainTls, kStranger});
  EXPECT_EQ(response.status, 200U);
  EXPECT_EQ(header(response, "Access-Control-Allow-Origin"), "*");
}

TEST(Route, AllowsInlineStyleOnDebugPagesAlone) {
  EXPECT_EQ(header(get("/"), "Content-Security-Policy"), kPolicy);
  EXPECT_EQ(header(get("/debug/"), "Content-Security-Policy"), kPolicy);
  const std::string wider = std::string(kPolicy) + "; style-src 'self' 'unsafe-inline'";
  EXPECT_EQ(header(get("/debug/varz"), "Content-Security-Policy"), wider);
  EXPECT_EQ(header(get("/debug/vars"), "Content-Security-Policy"), wider);
}

TEST(Route, AnswersTheChallengeOfCaptivePortalChecks) {
  struct Case {
    std::string_view name;
    std::string challenge;
    bool answered;
  };
  const Case kCases[] = {
      {"address", "ts_192.0.2.1", true},
      {"name", "ts_derp1.example.com", true},
      {"all characters", "azAZ09.-_:", true},
      {"64 characters", std::string(64, 'a'), true},
      {"65 characters", std::string(65, 'a'), false},
      {"empty", "", false},
      {"blank", "a b", false},
      {"slash", "a/b", false},
      {"markup", "<script>", false},
      {"beyond ASCII", "caf\u00e9", false},
  };
  for (const auto listener : {Listener::kMainTls, Listener::kMainPlain, Listener::kHttpPort}) {
    for (const auto& [name, challenge, answered] : kCases) {
      SCOPED_TRACE(name);
      const Response response =
          get("/generate_204?t=1", "X-Tailscale-Challenge: " + challenge + "\r\n", listener);
      EXPECT_EQ(response.status, 204U);
      EXPECT_EQ(header(response, "Cache-Control"), kNoCache);
      EXPECT_EQ(header(response, "X-Tailscale-Response"), answered ? "response " + challenge : "");
      EXPECT_EQ(header(response, "Content-Security-Policy"), "");
    }
    EXPECT_EQ(route(request_of("POST", "/generate_204"), site(), {listener, kStranger}).status,
              204U);
  }
}

TEST(Route, KeepsStrangersOutOfDebugPages) {
  for (const std::string_view target :
       {"/debug/", "/debug/vars", "/debug/varz", "/debug/nope", "/debug/check"}) {
    for (const auto listener : {Listener::kMainTls, Listener::kMainPlain, Listener::kHttpPort}) {
      SCOPED_TRACE(target);
      const Response response = get(target, "", listener, kStranger);
      EXPECT_EQ(response.status, 403U);
      EXPECT_EQ(response.body, "debug access denied\n");
      EXPECT_EQ(get(target, "X-Forwarded-For: 127.0.0.1\r\n", listener).status, 403U);
    }
  }
}

TEST(Route, LinksTheDebugPagesOnlyForThoseWhoMayReadThem) {
  EXPECT_TRUE(get("/").body.contains("/debug/"));
  EXPECT_FALSE(get("/", "", Listener::kMainTls, kStranger).body.contains("/debug/"));
}

TEST(Route, ShowsTheHomePageThatIsSet) {
  auto blank = site();
  blank.home = Home::kBlank;
  Response response = route(request_of("GET", "/x"), blank, {Listener::kMainTls, kStranger});
  EXPECT_EQ(response.status, 200U);
  EXPECT_EQ(response.body, "");
  EXPECT_EQ(header(response, "Content-Type"), "text/html; charset=utf-8");
  EXPECT_TRUE(has_browser_headers(response));

  auto elsewhere = site();
  elsewhere.home = Home::kRedirect;
  elsewhere.home_url = "https://example.com/about?a=1&b=2";
  response = route(request_of("GET", "/x"), elsewhere, {Listener::kMainTls, kStranger});
  EXPECT_EQ(response.status, 302U);
  EXPECT_EQ(header(response, "Location"), elsewhere.home_url);
  EXPECT_EQ(response.body, "<a href=\"https://example.com/about?a=1&amp;b=2\">Found</a>.\n\n");
  EXPECT_TRUE(has_browser_headers(response));
}

// Each row was tried against derper v1.102.5, except escapes in unclean paths, which it garbles.
TEST(Route, RedirectsUncleanPaths) {
  struct Case {
    std::string_view target;
    std::string_view location;
  };
  constexpr Case kCases[] = {
      {"//derp", "/derp"},
      {"/./derp", "/derp"},
      {"/./derp/../x?q=1", "/x?q=1"},
      {"/a/b/../../..//c/./?b=c", "/c/?b=c"},
      {"/..", "/"},
      {"//", "/"},
      {"/a//", "/a/"},
      {"/a/.", "/a"},
      {"/debug", "/debug/"},
      {"/debug?a=b", "/debug/?a=b"},
      {"//debug", "/debug/"},
      {"//a%20b?x=%20", "/a%20b?x=%20"},
  };
  for (const auto& [target, location] : kCases) {
    SCOPED_TRACE(target);
    const Response response = get(target);
    EXPECT_EQ(response.status, 307U);
    EXPECT_EQ(header(response, "Location"), location);
    const Response posted =
        route(request_of("POST", target), site(), {Listener::kMainTls, kLoopback});
    EXPECT_EQ(posted.status, 307U);
    EXPECT_EQ(posted.body, "");
  }
  EXPECT_EQ(get("//derp").body, "<a href=\"/derp\">Temporary Redirect</a>.\n\n");
  EXPECT_EQ(get("//generate_204", "", Listener::kHttpPort).status, 307U);
}

TEST(Route, SendsEverythingElseFromTheHttpPortToHttps) {
  struct Case {
    std::string_view name;
    std::string_view target;
    std::string_view peer_ip;
    std::string_view location;
  };
  constexpr Case kCases[] = {
      {"a page", "/a/b?c=%20", kStranger, "https://derp1.example.com/a/b?c=%20"},
      {"the root", "/", kStranger, "https://derp1.example.com/"},
      {"the root for those who may debug", "/", kLoopback, "https://derp1.example.com/debug/"},
      {"the root with a query", "/?a", kLoopback, "https://derp1.example.com/?a"},
      {"a probe", "/derp/probe", kStranger, "https://derp1.example.com/derp/probe"},
      {"DERP", "/derp", kStranger, "https://derp1.example.com/derp"},
      {"an ACME challenge", "/.well-known/acme-challenge/x", kStranger,
       "https://derp1.example.com/.well-known/acme-challenge/x"},
      {"markup", "/\"><b>", kStranger, "https://derp1.example.com/\"><b>"},
      {"bytes beyond ASCII", "/\xff", kStranger, "https://derp1.example.com/%ff"},
      {"absolute form", "http://other/x", kStranger, "https://other/x"},
  };
  for (const auto& [name, target, peer_ip, location] : kCases) {
    SCOPED_TRACE(name);
    const Response response = get(target, "", Listener::kHttpPort, peer_ip);
    EXPECT_EQ(response.status, 302U);
    EXPECT_EQ(header(response, "Location"), location);
    EXPECT_EQ(header(response, "Content-Security-Policy"), "");
    EXPECT_FALSE(response.body.contains("<b>"));
  }
}

TEST(Route, TakesNothingButReadsOnTheHttpPort) {
  const Response response =
      route(request_of("POST", "/x"), site(), {Listener::kHttpPort, kLoopback});
  EXPECT_EQ(response.status, 400U);
  EXPECT_EQ(response.body, "Use HTTPS\n");
  EXPECT_EQ(route(request_of("CONNECT", "a:443"), site(), {Listener::kHttpPort, kLoopback}).status,
            404U);
  EXPECT_EQ(route(request_of("HEAD", "/x"), site(), {Listener::kHttpPort, kLoopback}).status, 302U);
}

TEST(Route, LetsPrometheusScrapeTheHttpPort) {
  const Response response = get("/debug/varz", "", Listener::kHttpPort);
  EXPECT_EQ(response.status, 200U);
  EXPECT_EQ(response.body, "derp_accepts 0\n");
}

TEST(Route, GuessesTheHostWhereHttp10LeavesItOut) {
  const auto parsed = http::parse_request(as_bytes("GET /x HTTP/1.0\r\n\r\n"));
  ASSERT_TRUE(parsed && *parsed);
  const Response response = route((*parsed)->request, site(), {Listener::kHttpPort, kStranger});
  EXPECT_EQ(header(response, "Location"), "https://derp1.example.com/x");
}

TEST(DerpUpgrade, LooksAtPathAndUpgradeAlone) {
  struct Case {
    std::string_view name;
    std::string_view method;
    std::string_view target;
    std::string_view headers;
    bool accepted;
  };
  constexpr Case kCases[] = {
      {"official", "GET", "/derp", "Connection: Upgrade\r\nUpgrade: DERP\r\n", true},
      {"any case", "GET", "/derp", "upgrade: dErP\r\n", true},
      {"no Connection header", "GET", "/derp", "Upgrade: DERP\r\n", true},
      {"by POST", "POST", "/derp", "Upgrade: DERP\r\n", true},
      {"with a query", "GET", "/derp?x", "Upgrade: DERP\r\n", true},
      {"old client saying WebSocket", "GET", "/derp", "Upgrade: WebSocket\r\n", true},
      {"WebSocket with another subprotocol", "GET", "/derp",
       "Upgrade: websocket\r\nSec-WebSocket-Protocol: chat\r\n", true},
      {"WebSocket for DERP", "GET", "/derp",
       "Upgrade: websocket\r\nSec-WebSocket-Protocol: derp\r\n", false},
      {"no upgrade", "GET", "/derp", "", false},
      {"another protocol", "GET", "/derp", "Upgrade: h2c\r\n", false},
      {"longer", "GET", "/derp", "Upgrade: DERP2\r\n", false},
      {"a list", "GET", "/derp", "Upgrade: derp, websocket\r\n", false},
      {"the second of two headers", "GET", "/derp", "Upgrade: x\r\nUpgrade: DERP\r\n", false},
      {"another path", "GET", "/derp/", "Upgrade: DERP\r\n", false},
      {"the root", "GET", "/", "Upgrade: DERP\r\n", false},
      {"a path to clean", "GET", "//derp", "Upgrade: DERP\r\n", false},
  };
  for (const auto& [name, method, target, headers, accepted] : kCases) {
    SCOPED_TRACE(name);
    const Request request = request_of(method, target, headers);
    EXPECT_EQ(derp_upgrade(request, site(), Listener::kMainTls).has_value(), accepted);
    EXPECT_EQ(derp_upgrade(request, site(), Listener::kMainPlain).has_value(), accepted);
    EXPECT_FALSE(derp_upgrade(request, site(), Listener::kHttpPort).has_value());
  }
}

TEST(DerpUpgrade, TellsFastStartAndIdealNode) {
  const auto upgrade_of = [](std::string_view more_headers) {
    return derp_upgrade(request_of("GET", "/derp", "Upgrade: DERP\r\n" + std::string(more_headers)),
                        site(), Listener::kMainTls);
  };
  EXPECT_FALSE(upgrade_of("")->fast_start);
  EXPECT_EQ(upgrade_of("")->ideal_node, "");
  EXPECT_TRUE(upgrade_of("Derp-Fast-Start: 1\r\n")->fast_start);
  EXPECT_FALSE(upgrade_of("Derp-Fast-Start: true\r\n")->fast_start);
  EXPECT_FALSE(upgrade_of("Derp-Fast-Start: 11\r\n")->fast_start);
  EXPECT_EQ(upgrade_of("Ideal-Node: 1a\r\n")->ideal_node, "1a");
}

TEST(Route, AnswersBootstrapDns) {
  const auto ask = [](std::string_view target) {
    return route(request_of("GET", target, ""), site(), {Listener::kMainTls, kStranger});
  };
  const Response response = ask("/bootstrap-dns?q=a%2eexample");
  EXPECT_EQ(response.status, 200U);
  EXPECT_EQ(response.body, "asked for 'a.example' by " + std::string(kStranger));
  EXPECT_TRUE(response.close);
  EXPECT_EQ(ask("/bootstrap-dns").body, "asked for '' by " + std::string(kStranger));
}

TEST(Route, SaysWhetherTheBooksAgree) {
  auto troubled = site();
  const Request request = request_of("GET", "/debug/check", "");
  Response response = route(request, troubled, {Listener::kMainTls, "127.0.0.1"});
  EXPECT_EQ(response.status, 200U);
  EXPECT_EQ(response.body, "derp.Server ConsistencyCheck okay");
  troubled.find_inconsistencies = [] { return std::string("1 and 2 differ"); };
  response = route(request, troubled, {Listener::kMainTls, "127.0.0.1"});
  EXPECT_EQ(response.status, 500U);
  EXPECT_EQ(response.body, "1 and 2 differ\n");
  EXPECT_EQ(std::ranges::count(response.headers, "X-Content-Type-Options",
                               [](const auto& field) { return field.first; }),
            1);
}

TEST(Route, SaysWhyDerpIsRefused) {
  const Request upgrade = request_of("GET", "/derp", "Upgrade: DERP\r\n");
  auto disabled = site();
  disabled.derp_enabled = false;
  EXPECT_FALSE(derp_upgrade(upgrade, disabled, Listener::kMainTls).has_value());
  Response response = route(upgrade, disabled, {Listener::kMainTls, kStranger});
  EXPECT_EQ(response.status, 404U);
  EXPECT_EQ(response.body, "derp server disabled\n");

  const Request websocket =
      request_of("GET", "/derp", "Upgrade: websocket\r\nSec-WebSocket-Protocol: derp, x\r\n");
  response = route(websocket, site(), {Listener::kMainTls, kStranger});
  EXPECT_EQ(response.status, 426U);
  EXPECT_TRUE(response.body.contains("WebSocket"));
}

TEST(DerpUpgrade, TakesAWebSocketWhoseHandshakeIsRight) {
  const auto upgrade_of = [](std::string_view protocol) {
    return derp_upgrade(
        request_of("GET", "/derp",
                   "Connection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n"
                   "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nDerp-Fast-Start: 1\r\n"
                   "Sec-WebSocket-Protocol: " +
                       std::string(protocol) + "\r\n"),
        site(), Listener::kMainTls);
  };
  const auto upgrade = upgrade_of("derp");
  ASSERT_TRUE(upgrade.has_value());
  EXPECT_TRUE(upgrade->websocket_head.starts_with("HTTP/1.1 101 "));
  EXPECT_TRUE(upgrade->websocket_speaks_derp);
  EXPECT_FALSE(upgrade->fast_start) << "a WebSocket always has its answer";
  EXPECT_FALSE(upgrade_of("xderp")->websocket_speaks_derp);
  // Without the subprotocol it is DERP without WebSocket.
  EXPECT_EQ(upgrade_of("chat")->websocket_head, "");
}

TEST(Route, AnswersChallengesOnTheHttpPortWhereCertificatesAreOrdered) {
  auto ordering = site();
  ordering.acme_challenge = [](std::string_view token) -> std::optional<std::string> {
    if (token == "token_1") return "token_1.thumbprint";
    return std::nullopt;
  };
  ordering.acme_host = "derp1.example.com";
  const auto ask = [&](std::string_view target, Listener listener = Listener::kHttpPort) {
    return route(request_of("GET", target), ordering, {listener, kStranger});
  };
  const auto good = ask("/.well-known/acme-challenge/token_1");
  EXPECT_EQ(good.status, 200U);
  EXPECT_EQ(good.body, "token_1.thumbprint");
  EXPECT_EQ(ask("/.well-known/acme-challenge/other").status, 404U);
  EXPECT_EQ(ask("/.well-known/acme-challenge/").status, 404U);
  EXPECT_EQ(ask("/.well-known/").status, 302U);
  EXPECT_NE(ask("/.well-known/acme-challenge/token_1", Listener::kMainTls).body,
            "token_1.thumbprint")
      << "authorities come to the HTTP port";

  ordering.acme_host = "other.example.com";
  EXPECT_EQ(ask("/.well-known/acme-challenge/token_1").status, 403U);
  ordering.acme_host = "";
  EXPECT_EQ(ask("/.well-known/acme-challenge/token_1").status, 200U);
  EXPECT_EQ(route(request_of("GET", "/.well-known/acme-challenge/token_1"), site(),
                  {Listener::kHttpPort, kStranger})
                .status,
            302U)
      << "without ACME it is a page like others";
}

}  // namespace
}  // namespace detour::admin
