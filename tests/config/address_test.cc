#include "config/address.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <string_view>

#include "support/says.h"

namespace detour::config {
namespace {

using test::says;

TEST(ParseListenAddress, UnderstandsWhatPeopleWrite) {
  struct Case {
    std::string_view text;
    ListenAddress address;
    std::string_view repaired;  ///< What the notice says was done; empty: nothing.
  };
  const Case kCases[] = {
      {":443", {.host = "", .port = 443}, ""},
      {"443", {.host = "", .port = 443}, ""},
      {"12345", {.host = "", .port = 12345}, ""},
      {":0", {.host = "", .port = 0}, ""},
      {":65535", {.host = "", .port = 65535}, ""},
      {":https", {.host = "", .port = 443}, ""},
      {"https", {.host = "", .port = 443}, ""},
      {"127.0.0.1:http", {.host = "127.0.0.1", .port = 80}, ""},
      {"0.0.0.0:443", {.host = "", .port = 443}, ""},
      {"[::]:443", {.host = "", .port = 443}, ""},
      {"*:8443", {.host = "", .port = 8443}, ""},
      {"203.0.113.7:8443", {.host = "203.0.113.7", .port = 8443}, ""},
      {"[2001:DB8::1]:443", {.host = "2001:db8::1", .port = 443}, ""},
      {"localhost:8443", {.host = "127.0.0.1", .port = 8443}, ""},
      {"\":443\"", {.host = "", .port = 443}, "quotes removed"},
      {"':443'", {.host = "", .port = 443}, "quotes removed"},
      {"\":443", {.host = "", .port = 443}, "quotes removed"},
      {"\\\":443\\\"", {.host = "", .port = 443}, "quotes removed"},
      {"\u201c:443\u201d", {.host = "", .port = 443}, "quotes removed"},
      {"\u2018203.0.113.7:443\u2019", {.host = "203.0.113.7", .port = 443}, "quotes removed"},
      {"\uff1a\uff18\uff14\uff14\uff13",
       {.host = "", .port = 8443},
       "full-width characters replaced"},
      {" :443 ", {.host = "", .port = 443}, "spaces removed"},
      {"203.0.113.7 : 443", {.host = "203.0.113.7", .port = 443}, "spaces removed"},
      {"\u3000:443\r\n", {.host = "", .port = 443}, "spaces removed"},
      {"\"[::1]:443\"", {.host = "::1", .port = 443}, "quotes removed"},
  };
  for (const auto& [text, address, repaired] : kCases) {
    SCOPED_TRACE(text);
    const auto parsed = parse_listen_address(text, "flag -a");
    ASSERT_TRUE(parsed.has_value()) << parsed.error();
    EXPECT_EQ(parsed->address, address);
    EXPECT_EQ(parsed->port_is_https, address.port == 443);
    EXPECT_TRUE(says(parsed->notice, "(flag -a)"));
    EXPECT_TRUE(says(parsed->notice, repaired));
    if (repaired.empty()) {
      EXPECT_FALSE(says(parsed->notice, "removed") || says(parsed->notice, "replaced"));
    }
  }
}

TEST(ParseListenAddress, SaysOnceWhatItUnderstood) {
  EXPECT_EQ(
      parse_listen_address("\":443\"", "flag -a")->notice,
      "listen address \"\\\":443\\\"\" (flag -a): quotes removed, listening on all addresses, "
      "port 443");
  EXPECT_EQ(parse_listen_address("203.0.113.7:0", "default")->notice,
            "listen address \"203.0.113.7:0\" (default): listening on 203.0.113.7, a port that the "
            "system chooses");
}

TEST(ParseListenAddress, SaysWhatToWriteInstead) {
  struct Case {
    std::string_view text;
    std::string_view says;
  };
  constexpr Case kCases[] = {
      {"", "it is empty: write :443"},
      {"\"\"", "it is empty: write :443"},
      {":", "the port is missing: write it like :443"},
      {"203.0.113.7", "write 203.0.113.7:443"},
      {"203.0.113.7:", "the port is missing"},
      {"2001:db8::7", "write [2001:db8::7]:443"},
      {"2001:db8::1:443", "write [2001:db8::1]:443 or [2001:db8::1:443]:443"},
      {"::1", "the port is missing"},
      {"::", "write [::]:443"},
      {":::443", "write [::]:443"},
      {"[::1]", "write [::1]:443"},
      {"[::1]443", "write [::1]:443"},
      {"[::1", "the closing ] is missing"},
      {"[203.0.113.7]:443", "\"203.0.113.7\" is not an IPv6 address"},
      {"[fe80::1%eth0]:443", "is not an IPv6 address"},
      {"fe80::1%eth0:443", "a colon too many"},
      {"127.0.0.1:1:2", "a colon too many"},
      {":65536", "65536 is no port: they go from 0 to 65535"},
      {":99999999999999999999", "is no port"},
      {":-1", "is no port"},
      {":44a", "\"44a\" is no port: write a number"},
      {"nonsense", "\"nonsense\" is no port"},
      {"443 8443", "a space in it"},
      {"443/tcp", "a slash does not belong there"},
      {"https://derp.example.com:443", "it is a URL"},
      {"derp.example.com", "write derp.example.com:443"},
      {"derp.example.com:443", "\"derp.example.com\" is not an IP address"},
      {"203.0.113.256:443", "\"203.0.113.256\" is not an IP address"},
  };
  for (const auto& [text, expected] : kCases) {
    SCOPED_TRACE(text);
    const auto parsed = parse_listen_address(text, "flag -a");
    ASSERT_FALSE(parsed.has_value());
    EXPECT_TRUE(says(parsed.error(), "listen address \""));
    EXPECT_TRUE(says(parsed.error(), "(flag -a)"));
    EXPECT_TRUE(says(parsed.error(), expected));
  }
}

TEST(ParseListenAddress, MakesControlCharactersInMessagesVisible) {
  EXPECT_TRUE(says(parse_listen_address("4\x1b[2J", "x").error(), "\"4\\x1b[2J\""));
}

TEST(ToText, PutsIpv6AddressesIntoBrackets) {
  EXPECT_EQ(to_text({.host = "", .port = 443}), ":443");
  EXPECT_EQ(to_text({.host = "203.0.113.7", .port = 443}), "203.0.113.7:443");
  EXPECT_EQ(to_text({.host = "2001:db8::1", .port = 443}), "[2001:db8::1]:443");
}

TEST(ParseIp, GivesTheUsualSpelling) {
  EXPECT_EQ(parse_ip("203.0.113.7"), "203.0.113.7");
  EXPECT_EQ(parse_ip("2001:0DB8:0:0:0:0:0:1"), "2001:db8::1");
  for (const auto text : {"", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "[::1]", "::1%lo", "x",
                          "1.2.3.4:5", " 1.2.3.4"})
    EXPECT_EQ(parse_ip(text), std::nullopt) << text;
}

TEST(IsCidr, ChecksTheLengthForEachFamily) {
  for (const auto text : {"192.0.2.0/24", "192.0.2.7/32", "0.0.0.0/0", "2001:db8::/32", "::/128"})
    EXPECT_TRUE(is_cidr(text)) << text;
  for (const auto text :
       {"", "/", "192.0.2.0", "192.0.2.0/", "192.0.2.0/33", "::/129", "x/24", "192.0.2.0/-1",
        "192.0.2.0/024", "192.0.2.0/24/1", "192.0.2.0/99999999999"})
    EXPECT_FALSE(is_cidr(text)) << text;
}

TEST(ParseHostname, TakesNamesAndAddresses) {
  struct Case {
    std::string_view text;
    std::string_view name;
  };
  const std::string label(63, 'a');
  const std::string longest = label + "." + label + "." + label + "." + std::string(61, 'b');
  const Case kCases[] = {
      {"derp.example.com", "derp.example.com"},
      {"DERP.Example.COM", "derp.example.com"},
      {"localhost", "localhost"},
      {"xn--fsqu00a.example", "xn--fsqu00a.example"},
      {"my_relay.example.com", "my_relay.example.com"},
      {"1.example.com", "1.example.com"},
      {"203.0.113.7", "203.0.113.7"},
      {"2001:DB8::1", "2001:db8::1"},
      {"[2001:db8::1]", "2001:db8::1"},
      {longest, longest},
  };
  for (const auto& [text, name] : kCases) EXPECT_EQ(parse_hostname(text, "x"), name) << text;
}

TEST(ParseHostname, SaysTheExactThingToWriteInstead) {
  const std::string too_long_label = std::string(64, 'a') + ".example.com";
  const std::string label(63, 'a');
  const std::string too_long = label + "." + label + "." + label + "." + std::string(62, 'b');
  struct Case {
    std::string_view text;
    std::string_view says;
  };
  const Case kCases[] = {
      {"https://derp.example.com", "a URL is not a host name: write derp.example.com"},
      {"https://DERP.example.com:8443/derp", "write derp.example.com"},
      {"derp.example.com/", "a slash does not belong into a host name: write derp.example.com"},
      {"derp.example.com:8443", "the port does not belong into the host name"},
      {"derp.example.com.", "the dot at the end has to go: write derp.example.com"},
      {"\"derp.example.com\"", "quotes, spaces and full-width characters do not belong"},
      {" derp.example.com ", "write derp.example.com"},
      {"203.0.113.7:443", "write 203.0.113.7"},
      {"https://[2001:db8::1]:443/", "write 2001:db8::1"},
      {"*.example.com",
       "a wildcard is for certificates, clients need one name: write derp.example"},
      {"", "it is empty"},
      {"derp..example.com", "it has a dot too many"},
      {".example.com", "it has a dot too many"},
      {"-derp.example.com", "\"-derp\" begins or ends with a dash"},
      {"derp example.com", "\"derp example\" has a character"},
      {"d\u00e9rp.example.com", "write the form that begins with xn--"},
      {"203.0.113.256", "it looks like an IP address and is none"},
      {"1.2.3", "it looks like an IP address and is none"},
      {too_long_label, "is longer than 63 characters"},
      {too_long, "it is longer than 253 characters"},
  };
  for (const auto& [text, expected] : kCases) {
    SCOPED_TRACE(text);
    const auto parsed = parse_hostname(text, "flag -hostname");
    ASSERT_FALSE(parsed.has_value()) << *parsed;
    EXPECT_TRUE(says(parsed.error(), "(flag -hostname)"));
    EXPECT_TRUE(says(parsed.error(), expected));
  }
}

}  // namespace
}  // namespace detour::config
