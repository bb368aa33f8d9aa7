#include "doctor/target.h"

#include <gtest/gtest.h>

namespace detour::doctor {
namespace {

TEST(ParseTarget, UnderstandsEveryFormOfAnAddress) {
  struct Case {
    std::string_view text;
    std::string_view host;
    std::uint16_t port;
    bool use_tls;
    std::string_view header;
  };
  constexpr Case kCases[] = {
      {"https://derp.example.com", "derp.example.com", 443, true, "derp.example.com"},
      {"derp.example.com", "derp.example.com", 443, true, "derp.example.com"},
      {"DERP.example.com:8443", "derp.example.com", 8443, true, "derp.example.com:8443"},
      {"https://derp.example.com:443/derp", "derp.example.com", 443, true, "derp.example.com"},
      {"http://127.0.0.1", "127.0.0.1", 80, false, "127.0.0.1"},
      {"http://127.0.0.1:443/", "127.0.0.1", 443, false, "127.0.0.1:443"},
      {"[2001:db8::1]:65535", "2001:db8::1", 65535, true, "[2001:db8::1]:65535"},
      {"2001:db8::1", "2001:db8::1", 443, true, "[2001:db8::1]"},
      {"https://[::1]:1", "::1", 1, true, "[::1]:1"},
  };
  for (const auto& [text, host, port, use_tls, header] : kCases) {
    const auto target = parse_target(text);
    ASSERT_TRUE(target) << text << ": " << target.error();
    EXPECT_EQ(target->host, host) << text;
    EXPECT_EQ(target->port, port) << text;
    EXPECT_EQ(target->use_tls, use_tls) << text;
    EXPECT_EQ(target->host_header(), header) << text;
  }
}

TEST(ParseTarget, SaysWhatToWriteInstead) {
  for (const std::string_view text :
       {"", "https://", "\"derp.example.com\"", "\u201cderp.example.com\u201d",
        "derp.example.com\uff1a443", "derp.example.com :443", "derp.example.com:0",
        "derp.example.com:65536", "derp.example.com:", "derp.example.com:x", "[::1", "[::1]x",
        "ftp://derp.example.com", "https://derp.example.com/x", "*.example.com"}) {
    const auto target = parse_target(text);
    ASSERT_FALSE(target) << text;
    EXPECT_FALSE(target.error().empty());
  }
}

TEST(Target, SendsNoNameForAnAddress) {
  EXPECT_EQ(parse_target("derp.example.com")->server_name(), "derp.example.com");
  EXPECT_EQ(parse_target("192.0.2.1")->server_name(), "");
  EXPECT_EQ(parse_target("2001:db8::1")->server_name(), "");
}

}  // namespace
}  // namespace detour::doctor
