#include "net/proxy_header.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace detour::net {
namespace {

using namespace std::string_literals;
using namespace std::string_view_literals;

constexpr std::string_view kSignature = "\r\n\r\n\0\r\nQUIT\n"sv;

/// A header of version 2: `command` and `family` with their high nibbles, then the body.
std::string binary(char command, char family, std::string_view body) {
  std::string header(kSignature);
  header += command;
  header += family;
  header += static_cast<char>(body.size() >> 8);
  header += static_cast<char>(body.size() & 0xff);
  return header += body;
}

// 203.0.113.7:51966 to 192.0.2.1:443.
constexpr std::string_view kIpv4Body = "\xcb\x00\x71\x07\xc0\x00\x02\x01\xca\xfe\x01\xbb"sv;
// [2001:db8::7]:51966 to [2001:db8::1]:443.
constexpr std::string_view kIpv6Body =
    "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\xca\xfe\x01\xbb"sv;

struct Case {
  std::string_view name;
  std::string header;
  std::string source;  ///< Empty = none told.
};

std::vector<Case> good() {
  return {
      {"version 1, IPv4", "PROXY TCP4 203.0.113.7 192.0.2.1 51966 443\r\n", "203.0.113.7:51966"},
      {"version 1, IPv6", "PROXY TCP6 2001:db8::7 2001:db8::1 51966 443\r\n",
       "[2001:db8::7]:51966"},
      {"version 1, unknown", "PROXY UNKNOWN\r\n", ""},
      {"version 1, unknown with anything",
       "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", ""},
      {"version 1, ports at their limits", "PROXY TCP4 1.2.3.4 5.6.7.8 0 65535\r\n", "1.2.3.4:0"},
      {"version 2, IPv4", binary('\x21', '\x11', kIpv4Body), "203.0.113.7:51966"},
      {"version 2, IPv6", binary('\x21', '\x21', kIpv6Body), "[2001:db8::7]:51966"},
      {"version 2 with notes",
       binary('\x21', '\x11',
              std::string(kIpv4Body) + "\x03\0\x04"
                                       "abcd"s),
       "203.0.113.7:51966"},
      {"version 2, the proxy itself", binary('\x20', '\0', ""), ""},
      {"version 2, the proxy itself with addresses", binary('\x20', '\x11', kIpv4Body), ""},
      {"version 2, unspecified", binary('\x21', '\0', "xyz"), ""},
      {"version 2, unix sockets", binary('\x21', '\x31', std::string(216, 'u')), ""},
      {"version 2, the largest",
       binary('\x21', '\x11', std::string(kIpv4Body) + std::string(kProxyHeaderMax - 28, 'n')),
       "203.0.113.7:51966"},
  };
}

TEST(ParseProxyHeader, ReadsBothVersionsAndKeepsWhatComesBehind) {
  for (const auto& [name, header, source] : good()) {
    SCOPED_TRACE(name);
    const std::string input = header + "\x16\x03\x01 and so on";
    const auto parsed = parse_proxy_header(as_bytes(input));
    ASSERT_TRUE(parsed.has_value());
    ASSERT_TRUE(parsed->has_value());
    EXPECT_EQ((*parsed)->size, header.size());
    EXPECT_EQ((*parsed)->source ? (*parsed)->source->text() : "", source);
  }
}

TEST(ParseProxyHeader, WaitsAtEveryTruncation) {
  for (const auto& [name, header, source] : good()) {
    SCOPED_TRACE(name);
    for (std::size_t size = 0; size < header.size(); ++size) {
      const auto parsed = parse_proxy_header(as_bytes(std::string_view(header).substr(0, size)));
      ASSERT_TRUE(parsed.has_value()) << size;
      ASSERT_FALSE(parsed->has_value()) << size;
    }
  }
}

TEST(ParseProxyHeader, RefusesWhatIsNotOne) {
  const std::string long_line = "PROXY UNKNOWN " + std::string(kProxyLineMax - 16, 'x');
  struct Bad {
    std::string_view name;
    std::string input;
    ErrorCode code;
  };
  const Bad cases[] = {
      {"TLS", "\x16\x03\x01\x02", ErrorCode::kProxyHeaderMissing},
      {"HTTP", "GET / HTTP/1.1\r\n", ErrorCode::kProxyHeaderMissing},
      {"another method with P", "POST", ErrorCode::kProxyHeaderMissing},
      {"a signature with a fault", "\r\n\r\n\1", ErrorCode::kProxyHeaderMissing},
      {"lower case", "proxy TCP4", ErrorCode::kProxyHeaderMissing},
      {"another family", "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n", ErrorCode::kProxyHeaderInvalid},
      {"no family", "PROXY \r\n", ErrorCode::kProxyHeaderInvalid},
      {"no destination port", "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", ErrorCode::kProxyHeaderInvalid},
      {"one word more", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n", ErrorCode::kProxyHeaderInvalid},
      {"two spaces", "PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n", ErrorCode::kProxyHeaderInvalid},
      {"IPv6 as IPv4", "PROXY TCP4 ::1 ::1 1 2\r\n", ErrorCode::kProxyHeaderInvalid},
      {"IPv4 as IPv6", "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n", ErrorCode::kProxyHeaderInvalid},
      {"no address", "PROXY TCP4 localhost 5.6.7.8 1 2\r\n", ErrorCode::kProxyHeaderInvalid},
      {"a NUL", "PROXY TCP4 1.2.3.4\0x 5.6.7.8 1 2\r\n"s, ErrorCode::kProxyHeaderInvalid},
      {"port 65536", "PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n", ErrorCode::kProxyHeaderInvalid},
      {"a port with a zero", "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n", ErrorCode::kProxyHeaderInvalid},
      {"a negative port", "PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n", ErrorCode::kProxyHeaderInvalid},
      {"a bare line feed", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", ErrorCode::kProxyHeaderInvalid},
      {"a line of 108 bytes", long_line + "x\r\n", ErrorCode::kProxyHeaderInvalid},
      {"version 1 in binary", binary('\x11', '\x11', kIpv4Body), ErrorCode::kProxyHeaderInvalid},
      {"an unknown command", binary('\x22', '\x11', kIpv4Body), ErrorCode::kProxyHeaderInvalid},
      {"an unknown family", binary('\x21', '\x41', kIpv4Body), ErrorCode::kProxyHeaderInvalid},
      {"an unknown transport", binary('\x21', '\x13', kIpv4Body), ErrorCode::kProxyHeaderInvalid},
      {"IPv4 cut short", binary('\x21', '\x11', kIpv4Body.substr(1)),
       ErrorCode::kProxyHeaderInvalid},
      {"IPv6 cut short", binary('\x21', '\x21', kIpv6Body.substr(1)),
       ErrorCode::kProxyHeaderInvalid},
      {"one byte above the limit", std::string(kSignature) + "\x21\x11\x0f\xf1",
       ErrorCode::kProxyHeaderInvalid},
  };
  for (const auto& [name, input, code] : cases) {
    SCOPED_TRACE(name);
    const auto parsed = parse_proxy_header(as_bytes(input));
    ASSERT_FALSE(parsed.has_value());
    EXPECT_EQ(parsed.error().code, code);
  }
  // The longest line itself.
  EXPECT_TRUE(parse_proxy_header(as_bytes(long_line + "\r\n")).has_value());
  EXPECT_EQ((long_line + "\r\n").size(), kProxyLineMax);
}

TEST(LooksLikeProxyHeader, KnowsBothVersions) {
  EXPECT_TRUE(looks_like_proxy_header(as_bytes("PROXY TCP4 1.2.3.4")));
  EXPECT_TRUE(looks_like_proxy_header(as_bytes(kSignature)));
  EXPECT_FALSE(looks_like_proxy_header(as_bytes("PROXY")));
  EXPECT_FALSE(looks_like_proxy_header(as_bytes("\x16\x03\x01")));
  EXPECT_FALSE(looks_like_proxy_header({}));
}

}  // namespace
}  // namespace detour::net
