#include "net/address.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "support/hex.h"

namespace detour::net {
namespace {

TEST(SocketAddress, ReadsAndPrintsLiterals) {
  struct Case {
    std::string_view host;
    int family;
    std::string_view ip;
    std::string_view text;
    std::string_view mapped;
    bool is_ipv4;
  };
  constexpr Case kCases[] = {
      {"203.0.113.7", AF_INET, "203.0.113.7", "203.0.113.7:443", "00000000000000000000ffffcb007107",
       true},
      {"0.0.0.0", AF_INET, "0.0.0.0", "0.0.0.0:443", "00000000000000000000ffff00000000", true},
      {"255.255.255.255", AF_INET, "255.255.255.255", "255.255.255.255:443",
       "00000000000000000000ffffffffffff", true},
      {"2001:db8::1", AF_INET6, "2001:db8::1", "[2001:db8::1]:443",
       "20010db8000000000000000000000001", false},
      {"2001:DB8:0:0:0:0:0:1", AF_INET6, "2001:db8::1", "[2001:db8::1]:443",
       "20010db8000000000000000000000001", false},
      {"::", AF_INET6, "::", "[::]:443", "00000000000000000000000000000000", false},
      {"", AF_INET6, "::", "[::]:443", "00000000000000000000000000000000", false},
      {"::1", AF_INET6, "::1", "[::1]:443", "00000000000000000000000000000001", false},
      {"::ffff:203.0.113.7", AF_INET6, "203.0.113.7", "203.0.113.7:443",
       "00000000000000000000ffffcb007107", true},
      // IPv4-compatible, not mapped: an IPv6 address like any other.
      {"::203.0.113.7", AF_INET6, "::203.0.113.7", "[::203.0.113.7]:443",
       "000000000000000000000000cb007107", false},
  };
  for (const auto& [host, family, ip, text, mapped, is_ipv4] : kCases) {
    SCOPED_TRACE(host);
    const auto address = SocketAddress::parse(host, 443);
    ASSERT_TRUE(address.has_value());
    EXPECT_EQ(address->family(), family);
    EXPECT_EQ(address->size(), family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    EXPECT_EQ(address->port(), 443);
    EXPECT_EQ(address->ip_text(), ip);
    EXPECT_EQ(address->text(), text);
    EXPECT_EQ(test::hex(address->mapped_bytes()), mapped);
    const auto v4 = address->ipv4_bytes();
    EXPECT_EQ(v4.has_value(), is_ipv4);
    if (v4) {
      EXPECT_EQ(test::hex(*v4), mapped.substr(24));
    }
  }
}

TEST(SocketAddress, RefusesWhatIsNoLiteral) {
  for (const std::string_view host : {"localhost", "203.0.113", "203.0.113.256", "203.0.113.7:443",
                                      "[::1]", "::g", " ::1", "1.2.3.4 ", "2001:db8::1::", "*"}) {
    SCOPED_TRACE(host);
    EXPECT_FALSE(SocketAddress::parse(host, 443).has_value());
  }
}

TEST(SocketAddress, KeepsEveryPort) {
  for (const std::uint16_t port :
       std::initializer_list<std::uint16_t>{0, 1, 80, 443, 3478, 65535}) {
    EXPECT_EQ(SocketAddress::parse("127.0.0.1", port)->port(), port);
    EXPECT_EQ(SocketAddress::parse("::1", port)->port(), port);
  }
}

TEST(SocketAddress, TakesWhatTheKernelGives) {
  sockaddr_storage storage{};
  auto& v6 = reinterpret_cast<sockaddr_in6&>(storage);
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(41641);
  const std::uint8_t mapped[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1};
  std::copy(std::begin(mapped), std::end(mapped), v6.sin6_addr.s6_addr);
  const auto address = SocketAddress::from(storage);
  EXPECT_EQ(address.text(), "192.0.2.1:41641") << "as a dual-stack socket reports an IPv4 peer";
  EXPECT_EQ(SocketAddress{}.ip_text(), "");
}

}  // namespace
}  // namespace detour::net
