#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "base/bytes.h"
#include "http/message.h"

namespace detour::http {
namespace {

using namespace std::string_view_literals;

// As the official Go client writes it (docs/protocol.md, HTTP upgrade).
constexpr std::string_view kUpgradeHead =
    "GET /derp HTTP/1.1\r\n"
    "Host: derp1.example.com\r\n"
    "User-Agent: Go-http-client/1.1\r\n"
    "Connection: Upgrade\r\n"
    "Ideal-Node: 1a\r\n"
    "Upgrade: DERP\r\n"
    "\r\n";

Result<std::optional<ParsedRequest>> parse(std::string_view text) {
  return parse_request(as_bytes(text));
}

/// A request whose whole head is there and is accepted.
Request parsed(std::string_view text) {
  const auto result = parse(text);
  EXPECT_TRUE(result.has_value()) << text;
  EXPECT_TRUE(result && result->has_value()) << text;
  if (!result || !*result) return {};
  EXPECT_EQ((*result)->head_size, text.size());
  return (*result)->request;
}

std::string get(std::string_view target, std::string_view more_headers = "") {
  return "GET " + std::string(target) + " HTTP/1.1\r\nHost: a\r\n" + std::string(more_headers) +
         "\r\n";
}

TEST(ParseRequest, ReadsTheUpgradeOfTheOfficialClient) {
  const Request request = parsed(kUpgradeHead);
  EXPECT_EQ(request.method, "GET");
  EXPECT_EQ(request.target, "/derp");
  EXPECT_EQ(request.path, "/derp");
  EXPECT_EQ(request.query, "");
  EXPECT_EQ(request.version, 11U);
  EXPECT_TRUE(request.keep_alive);
  EXPECT_EQ(request.body_size, 0U);
  ASSERT_EQ(request.headers.size(), 5U);
  EXPECT_EQ(request.headers[3], (std::pair<std::string, std::string>("Ideal-Node", "1a")));
  EXPECT_EQ(request.header("upgrade"), "DERP");
  EXPECT_EQ(request.header("IDEAL-NODE"), "1a");
  EXPECT_FALSE(request.has_header("Derp-Fast-Start"));
  EXPECT_EQ(request.header("Derp-Fast-Start"), "");
}

TEST(ParseRequest, WaitsAtEverySplitPoint) {
  for (std::size_t size = 0; size < kUpgradeHead.size(); ++size) {
    const auto result = parse(kUpgradeHead.substr(0, size));
    ASSERT_TRUE(result.has_value()) << size;
    EXPECT_FALSE(result->has_value()) << size;
  }
}

TEST(ParseRequest, LeavesTheBytesBehindTheHeadToTheCaller) {
  // Fast start: frames follow in the same write. They may be any bytes, also those of a head.
  for (const auto behind :
       {"\x02\x00\x00\x00\x68"sv, "\r\n\r\n"sv, "GET / HTTP/1.1\r\n"sv, "\0"sv}) {
    const auto result = parse(std::string(kUpgradeHead) + std::string(behind));
    ASSERT_TRUE(result && *result);
    EXPECT_EQ((*result)->head_size, kUpgradeHead.size());
  }
}

TEST(ParseRequest, LeavesALargeAmountBehindTheHeadToTheCaller) {
  const auto result = parse(std::string(kUpgradeHead) + std::string(4 * kRequestHeadMax, 'x'));
  ASSERT_TRUE(result && *result);
  EXPECT_EQ((*result)->head_size, kUpgradeHead.size());
}

TEST(ParseRequest, SplitsAndDecodesTheTarget) {
  struct Case {
    std::string_view name;
    std::string_view target;
    std::string_view path;
    std::string_view query;
  };
  constexpr Case kCases[] = {
      {"query", "/generate_204?t=1", "/generate_204", "t=1"},
      {"query undecoded", "/x?a=%20?b", "/x", "a=%20?b"},
      {"empty query", "/x?", "/x", ""},
      {"escapes", "/%64erp%2ex", "/derp.x", ""},
      {"an escaped slash", "/derp%2Fx%2fy/%64", "/derp%2Fx%2fy/d", ""},
      {"plus is a plus", "/a+b", "/a+b", ""},
      {"bad escape in the query", "/x?%zz", "/x", "%zz"},
      {"absolute form", "http://foo:80/derp?q", "/derp", "q"},
      {"absolute form without path", "http://foo", "/", ""},
      {"absolute form without path, with query", "http://foo?q=/x", "/", "q=/x"},
      {"double slash", "//derp", "//derp", ""},
      {"bytes beyond ASCII", "/\xff", "/\xff", ""},
  };
  for (const auto& [name, target, path, query] : kCases) {
    SCOPED_TRACE(name);
    const Request request = parsed(get(target));
    EXPECT_EQ(request.target, target);
    EXPECT_EQ(request.path, path);
    EXPECT_EQ(request.query, query);
  }
}

TEST(ParseRequest, TakesAnAuthorityForConnectAndAStarForOptions) {
  EXPECT_EQ(parsed("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n").target, "a:443");
  EXPECT_EQ(parsed("CONNECT a:443 HTTP/1.1\r\n\r\n").path, "");
  EXPECT_EQ(parsed("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").path, "*");
  EXPECT_FALSE(parse("GET * HTTP/1.1\r\nHost: a\r\n\r\n").has_value());
}

TEST(ParseRequest, KeepsTheConnectionAsTheVersionSays) {
  struct Case {
    std::string_view name;
    std::string_view head;
    bool keep_alive;
  };
  constexpr Case kCases[] = {
      {"1.1", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", true},
      {"1.1 close", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false},
      {"1.1 close in a list", "GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n", false},
      {"1.0", "GET / HTTP/1.0\r\n\r\n", false},
      {"1.0 keep-alive", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
  };
  for (const auto& [name, head, keep_alive] : kCases) {
    SCOPED_TRACE(name);
    EXPECT_EQ(parsed(head).keep_alive, keep_alive);
  }
}

TEST(ParseRequest, GivesTheFirstOfSeveralHeaders) {
  const Request request = parsed(get("/", "Upgrade: DERP\r\nupgrade: other\r\n"));
  EXPECT_EQ(request.header("Upgrade"), "DERP");
  EXPECT_EQ(request.headers.size(), 3U);
}

TEST(ParseRequest, TrimsValuesAndTakesTabsAndHighBytesInThem) {
  const Request request = parsed(get("/", "A: \t b\tc\xff \r\nB:\r\nC: 1\r\n 2\r\n"));
  EXPECT_EQ(request.header("a"), "b\tc\xff");
  EXPECT_TRUE(request.has_header("b"));
  EXPECT_EQ(request.header("b"), "");
  EXPECT_EQ(request.header("c"), "1 2");  // Folded lines count as one.
}

TEST(ParseRequest, RefusesMalformedHeads) {
  struct Case {
    std::string_view name;
    std::string head;
  };
  const Case kCases[] = {
      {"TLS instead of HTTP", "\x16\x03\x01\x02\x01"},
      {"frames instead of HTTP", std::string("\x02\0\0\0\x68", 5)},
      {"no host", "GET / HTTP/1.1\r\n\r\n"},
      {"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"},
      {"two hosts in 1.0", "GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n"},
      {"slash in host", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"},
      {"space in host", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"},
      {"bare line feeds", "GET / HTTP/1.1\nHost: a\n\n"},
      {"empty line in front", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"},
      {"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"},
      {"no slash", get("foo")},
      {"no scheme", get("://foo/x")},
      {"bad escape", get("/%zz")},
      {"escape cut short", get("/%2")},
      {"NUL in the target", get("/a\0b"sv)},
      {"control character in the target", get("/a\x01")},
      {"method not a token", "G@T / HTTP/1.1\r\nHost: a\r\n\r\n"},
      {"version 2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n"},
      {"version 0.9", "GET / HTTP/0.9\r\nHost: a\r\n\r\n"},
      {"preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
      {"NUL in a value", get("/", "A: a\0b\r\n"sv)},
      {"control character in a value", get("/", "A: a\x01\r\n")},
      {"delete in a value", get("/", "A: a\x7f\r\n")},
      {"bare carriage return in a value", get("/", "A: a\rb\r\n")},
      {"space before the colon", get("/", "A : b\r\n")},
      {"empty name", get("/", ": b\r\n")},
      {"no colon", get("/", "Ab\r\n")},
      {"chunked twice", get("/", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")},
      {"chunked behind another coding", get("/", "Transfer-Encoding: gzip, chunked\r\n")},
      {"chunked in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"},
      {"sized and chunked", get("/", "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n")},
      {"other transfer coding", get("/", "Transfer-Encoding: identity\r\n")},
      {"chunked and sized", get("/", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n")},
  };
  for (const auto& [name, head] : kCases) {
    SCOPED_TRACE(name);
    const auto result = parse(head);
    ASSERT_FALSE(result.has_value());
    EXPECT_EQ(result.error().code, ErrorCode::kHttpMalformed);
  }
}

TEST(ParseRequest, DoesWithoutAHostOnlyInHttp10) {
  EXPECT_EQ(parsed("GET /x HTTP/1.0\r\n\r\n").version, 10U);
  EXPECT_EQ(parsed("GET /x HTTP/1.1\r\nHost:\r\n\r\n").header("Host"), "");
  EXPECT_EQ(parsed("GET /x HTTP/1.1\r\nHost: [::1]:443\r\n\r\n").header("Host"), "[::1]:443");
}

TEST(ParseRequest, SizesBodiesUpToTheLimit) {
  struct Case {
    std::string_view name;
    std::string_view headers;
    std::optional<std::uint64_t> expected;
  };
  constexpr Case kCases[] = {
      {"none", "", 0},
      {"zero", "Content-Length: 0\r\n", 0},
      {"some", "Content-Length: 17\r\n", 17},
      {"leading zeros", "Content-Length: 0017\r\n", 17},
      {"twice the same", "Content-Length: 17\r\nContent-Length: 17\r\n", 17},
      {"the limit", "Content-Length: 65536\r\n", kRequestBodyMax},
      {"one above the limit", "Content-Length: 65537\r\n", std::nullopt},
      {"beyond 64 bits", "Content-Length: 18446744073709551617\r\n", std::nullopt},
      {"contradictory", "Content-Length: 17\r\nContent-Length: 18\r\n", std::nullopt},
      {"list", "Content-Length: 17, 17\r\n", std::nullopt},
      {"plus", "Content-Length: +17\r\n", std::nullopt},
      {"minus", "Content-Length: -1\r\n", std::nullopt},
      {"empty", "Content-Length:\r\n", std::nullopt},
      {"hex", "Content-Length: 0x11\r\n", std::nullopt},
  };
  for (const auto& [name, headers, expected] : kCases) {
    SCOPED_TRACE(name);
    const auto result = parse(get("/", headers));
    EXPECT_EQ(result.has_value(), expected.has_value());
    if (result && expected) {
      EXPECT_EQ((*result)->request.body_size, *expected);
    }
  }
}

TEST(ParseRequest, HoldsTheHeadToItsLimit) {
  const auto head_of = [](std::size_t size) {
    const std::size_t overhead = get("/", "A: \r\n").size();
    return get("/", "A: " + std::string(size - overhead, 'x') + "\r\n");
  };
  const std::string at_limit = head_of(kRequestHeadMax);
  ASSERT_EQ(at_limit.size(), kRequestHeadMax);
  EXPECT_EQ(parsed(at_limit).header("A").size(), kRequestHeadMax - get("/", "A: \r\n").size());
  EXPECT_TRUE(parse(at_limit + "more").has_value());

  const auto above = parse(head_of(kRequestHeadMax + 1));
  ASSERT_FALSE(above.has_value());
  EXPECT_EQ(above.error().code, ErrorCode::kHttpHeadTooLarge);
}

TEST(ParseRequest, RefusesALargeHeadBeforeItsEnd) {
  const std::string start = "GET /" + std::string(kRequestHeadMax - 5, 'x');
  ASSERT_EQ(start.size(), kRequestHeadMax);
  const auto waiting = parse(start);
  ASSERT_TRUE(waiting.has_value());
  EXPECT_FALSE(waiting->has_value());

  for (const auto& head : {start + "x", "GET / HTTP/1.1\r\nA: " + start}) {
    const auto refused = parse(head);
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, ErrorCode::kHttpHeadTooLarge);
  }
}

TEST(ParseRequest, HoldsTheNumberOfHeadersToItsLimit) {
  const auto headers = [](std::size_t count) {
    std::string text;
    for (std::size_t i = 0; i < count; ++i) text += "A: b\r\n";
    return text;
  };
  EXPECT_EQ(parsed(get("/", headers(kRequestHeadersMax - 1))).headers.size(), kRequestHeadersMax);
  const auto above = parse(get("/", headers(kRequestHeadersMax)));
  ASSERT_FALSE(above.has_value());
  EXPECT_EQ(above.error().code, ErrorCode::kHttpHeadTooLarge);
}

}  // namespace
}  // namespace detour::http
