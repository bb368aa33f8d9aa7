#include "load/target.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <string_view>

namespace detour::load {
namespace {

TEST(LoadTarget, UnderstandsAddressesWithPorts) {
  const auto v4 = Target::parse("203.0.113.7:443");
  ASSERT_TRUE(v4);
  EXPECT_EQ(v4->family(), AF_INET);
  EXPECT_EQ(v4->host(), "203.0.113.7");
  EXPECT_EQ(v4->host_and_port(), "203.0.113.7:443");
  EXPECT_FALSE(v4->is_loopback());
  const auto v6 = Target::parse("[::1]:8443");
  ASSERT_TRUE(v6);
  EXPECT_EQ(v6->family(), AF_INET6);
  EXPECT_EQ(v6->host(), "::1");
  EXPECT_TRUE(v6->is_loopback());
}

TEST(LoadTarget, RefusesWhatIsNoAddressAndPort) {
  for (const std::string_view text :
       {"", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "localhost:443", ":443",
        "127.0.0.1:44x"}) {
    EXPECT_FALSE(Target::parse(text)) << text;
  }
}

TEST(LoadTarget, TheLoadGeneratorTakesLoopbackAddressesOnly) {
  for (const std::string_view text : {"127.0.0.1:443", "127.9.8.7:443", "[::1]:443"})
    EXPECT_TRUE(Target::parse_loopback(text)) << text;
  for (const std::string_view text : {"128.0.0.1:443", "10.0.0.1:443", "[::2]:443"})
    EXPECT_FALSE(Target::parse_loopback(text)) << text;
}

TEST(LoadTarget, NamesAreNotPartOfTheAddress) {
  auto target = Target::parse("203.0.113.7:8443");
  ASSERT_TRUE(target);
  target->set_names("derp.example.com", "derp.example.com:8443");
  EXPECT_EQ(target->host(), "derp.example.com");
  EXPECT_EQ(target->host_and_port(), "derp.example.com:8443");
  EXPECT_EQ(target->with_port(3478).family(), AF_INET);
  EXPECT_FALSE(target->with_port(3478).is_loopback());
}

}  // namespace
}  // namespace detour::load
