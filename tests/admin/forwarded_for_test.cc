#include "admin/forwarded_for.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace detour::admin {
namespace {

const std::vector<IpPrefix> kTrusted = {*parse_ip_prefix("10.0.0.0/8"),
                                        *parse_ip_prefix("::1/128")};

std::string client_of(const std::vector<std::string_view>& values) {
  http::Request request;
  request.headers.emplace_back("Host", "x");
  for (const auto value : values) request.headers.emplace_back("x-forwarded-for", value);
  return forwarded_client(request, kTrusted).value_or("none");
}

TEST(ForwardedClient, IsTheLastOneThatIsNoProxy) {
  struct Case {
    std::string_view name;
    std::vector<std::string_view> values;
    std::string_view client;
  };
  const Case cases[] = {
      {"no header", {}, "none"},
      {"an empty header", {""}, "none"},
      {"one client", {"203.0.113.7"}, "203.0.113.7"},
      {"what the client wrote itself does not count", {"127.0.0.1, 203.0.113.7"}, "203.0.113.7"},
      {"through two proxies", {"127.0.0.1, 203.0.113.7, 10.1.2.3"}, "203.0.113.7"},
      {"two headers", {"127.0.0.1, 203.0.113.7", " 10.1.2.3 "}, "203.0.113.7"},
      {"proxies only", {"10.0.0.1, 10.0.0.2"}, "10.0.0.1"},
      {"with ports", {"203.0.113.7:1234, [::1]:99"}, "203.0.113.7"},
      {"IPv6", {"2001:db8::7"}, "2001:db8::7"},
      {"IPv6 in brackets", {"[2001:db8::7]"}, "2001:db8::7"},
      {"nonsense ends the search", {"203.0.113.7, unknown, 10.1.2.3"}, "10.1.2.3"},
      {"nonsense last", {"203.0.113.7, unknown"}, "none"},
      {"an open bracket", {"[2001:db8::7"}, "2001:db8::7"},
      {"commas only", {",,"}, "none"},
  };
  for (const auto& [name, values, client] : cases) {
    SCOPED_TRACE(name);
    EXPECT_EQ(client_of(values), client);
  }
}

TEST(DebugAccess, DecidesByTheClientThatATrustedProxyNames) {
  http::Request request;
  request.method = "GET";
  request.headers = {{"X-Forwarded-For", "127.0.0.1"}};
  const DebugAccess access;
  EXPECT_FALSE(access.allows(request, "127.0.0.1"));
  EXPECT_TRUE(access.allows(request, "127.0.0.1", /*forwarded=*/true));
  EXPECT_FALSE(access.allows(request, "203.0.113.7", /*forwarded=*/true));
}

}  // namespace
}  // namespace detour::admin
