#include "admin/debug_access.h"

#include <gtest/gtest.h>

#include <string>

namespace detour::admin {
namespace {

http::Request get(std::string query = "") {
  http::Request request;
  request.method = "GET";
  request.query = std::move(query);
  return request;
}

TEST(ParseIp, TakesLiteralsOfBothFamilies) {
  EXPECT_EQ(parse_ip("203.0.113.7"), parse_ip("::ffff:203.0.113.7"));
  EXPECT_EQ(parse_ip("fe80::1%eth0"), parse_ip("fe80::1"));
  EXPECT_NE(parse_ip("::1"), parse_ip("127.0.0.1"));
  for (const std::string_view text :
       {"", "localhost", "1.2.3", "1.2.3.4.5", "1.2.3.256", " 1.2.3.4", "[::1]", "1.2.3.4:80"}) {
    EXPECT_FALSE(parse_ip(text).has_value()) << text;
  }
}

TEST(ParseIpPrefix, TakesAddressSlashBits) {
  for (const std::string_view text :
       {"10.0.0.0/8", "10.1.2.3/0", "10.0.0.1/32", "::/0", "2001:db8::/32", "::1/128"}) {
    EXPECT_TRUE(parse_ip_prefix(text).has_value()) << text;
  }
  for (const std::string_view text :
       {"", "/", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8",
        "10.0.0.0/08", "10.0.0.0/8 ", "10.0.0.0/8/8", "::/129", "x/8", "fe80::%eth0/64"}) {
    EXPECT_FALSE(parse_ip_prefix(text).has_value()) << text;
  }
}

TEST(IpPrefix, ContainsExactlyWhatSharesItsBits) {
  struct Case {
    std::string_view prefix;
    std::string_view ip;
    bool contained;
  };
  constexpr Case kCases[] = {
      {"10.0.0.0/8", "10.255.0.1", true},
      {"10.0.0.0/8", "11.0.0.0", false},
      {"10.1.2.3/8", "10.9.9.9", true},
      {"192.0.2.0/25", "192.0.2.127", true},
      {"192.0.2.0/25", "192.0.2.128", false},
      {"192.0.2.1/32", "192.0.2.1", true},
      {"192.0.2.1/32", "192.0.2.2", false},
      {"0.0.0.0/0", "203.0.113.7", true},
      {"0.0.0.0/0", "2001:db8::1", false},
      {"::/0", "2001:db8::1", true},
      {"2001:db8::/33", "2001:db8:7fff::1", true},
      {"2001:db8::/33", "2001:db8:8000::1", false},
      {"::1/128", "::1", true},
      {"::1/128", "::2", false},
  };
  for (const auto& [prefix, ip, contained] : kCases) {
    SCOPED_TRACE(std::string(prefix) + " " + std::string(ip));
    EXPECT_EQ(parse_ip_prefix(prefix)->contains(*parse_ip(ip)), contained);
  }
}

TEST(DebugAccess, LetsInLoopbackAndTailscaleAddresses) {
  struct Case {
    std::string_view name;
    std::string_view peer_ip;
    bool allowed;
  };
  constexpr Case kCases[] = {
      {"loopback", "127.0.0.1", true},
      {"all of 127/8", "127.255.255.254", true},
      {"IPv6 loopback", "::1", true},
      {"mapped loopback", "::ffff:127.0.0.1", true},
      {"first of 100.64/10", "100.64.0.0", true},
      {"last of 100.64/10", "100.127.255.255", true},
      {"before 100.64/10", "100.63.255.255", false},
      {"behind 100.64/10", "100.128.0.0", false},
      {"before the part of ChromeOS", "100.115.91.255", true},
      {"first of ChromeOS", "100.115.92.0", false},
      {"last of ChromeOS", "100.115.93.255", false},
      {"behind the part of ChromeOS", "100.115.94.0", true},
      {"Tailscale IPv6", "fd7a:115c:a1e0::1", true},
      {"other unique local address", "fd7a:115c:a1e1::1", false},
      {"private", "192.168.1.1", false},
      {"public", "203.0.113.7", false},
      {"no address", "", false},
      {"a name", "localhost", false},
  };
  const DebugAccess access;
  for (const auto& [name, peer_ip, allowed] : kCases) {
    SCOPED_TRACE(name);
    EXPECT_EQ(access.allows(get(), peer_ip), allowed);
  }
}

TEST(DebugAccess, LetsInWhatIsSet) {
  DebugAccess access;
  access.allow_ip = "203.0.113.7";
  access.trusted = {*parse_ip_prefix("192.0.2.0/24"), *parse_ip_prefix("2001:db8::/32")};
  EXPECT_TRUE(access.allows(get(), "203.0.113.7"));
  EXPECT_FALSE(access.allows(get(), "203.0.113.8"));
  EXPECT_TRUE(access.allows(get(), "192.0.2.200"));
  EXPECT_FALSE(access.allows(get(), "192.0.3.1"));
  EXPECT_TRUE(access.allows(get(), "2001:db8:1::1"));
}

TEST(DebugAccess, DeniesCallersThroughAProxy) {
  DebugAccess access;
  access.allow_ip = "203.0.113.7";
  access.trusted = {*parse_ip_prefix("0.0.0.0/0")};
  auto request = get();
  request.headers = {{"x-forwarded-for", "127.0.0.1"}};
  for (const std::string_view peer_ip : {"127.0.0.1", "203.0.113.7", "192.0.2.1"}) {
    EXPECT_FALSE(access.allows(request, peer_ip)) << peer_ip;
  }
  request.headers = {{"X-Forwarded-For", ""}};
  EXPECT_TRUE(access.allows(request, "127.0.0.1"));
}

TEST(DebugAccess, LetsInAnybodyWithTheKey) {
  struct Case {
    std::string_view name;
    std::string_view query;
    bool allowed;
  };
  constexpr Case kCases[] = {
      {"the key", "debugkey=open-sesame", true},
      {"among others", "a=b&debugkey=open-sesame&c", true},
      {"escaped", "debug%6bey=open%2Dsesame", true},
      {"the first of two", "debugkey=open-sesame&debugkey=x", true},
      {"the second of two", "debugkey=x&debugkey=open-sesame", false},
      {"behind a malformed one", "debugkey=%zz&debugkey=open-sesame", true},
      {"shorter", "debugkey=open-sesam", false},
      {"longer", "debugkey=open-sesame1", false},
      {"other case", "debugkey=Open-sesame", false},
      {"other name", "key=open-sesame", false},
      {"empty", "debugkey=", false},
      {"no value", "debugkey", false},
      {"nothing", "", false},
  };
  DebugAccess access;
  access.debug_key = "open-sesame";
  for (const auto& [name, query, allowed] : kCases) {
    SCOPED_TRACE(name);
    auto request = get(std::string(query));
    request.headers = {{"X-Forwarded-For", "203.0.113.7"}};
    EXPECT_EQ(access.allows(request, "203.0.113.7"), allowed);
    request.method = "POST";
    EXPECT_FALSE(access.allows(request, "203.0.113.7"));
  }
}

TEST(DebugAccess, NeverTakesAnEmptyKey) {
  const DebugAccess access;
  EXPECT_FALSE(access.allows(get("debugkey="), "203.0.113.7"));
  EXPECT_FALSE(access.allows(get("debugkey"), "203.0.113.7"));
}

}  // namespace
}  // namespace detour::admin
