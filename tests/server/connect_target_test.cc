#include "server/connect_target.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "server/places.h"

namespace detour::server {
namespace {

TEST(ConnectTarget, LeadsToHostsOfTheControlPlane) {
  const std::string longest = std::string(253 - 14, 'a') + ".tailscale.com";
  struct Case {
    std::string_view name;
    std::string target;
    std::string_view host;  ///< Empty: refused.
    std::uint16_t port = 0;
  };
  const Case cases[] = {
      {"HTTPS", "controlplane.tailscale.com:443", "controlplane.tailscale.com", 443},
      {"HTTP", "log.tailscale.com:80", "log.tailscale.com", 80},
      {"several labels", "a-1.b_2.tailscale.com:443", "a-1.b_2.tailscale.com", 443},
      {"the longest name", longest + ":443", longest, 443},
      {"one byte more", "a" + longest + ":443", ""},
      {"nothing", "", ""},
      {"no port", "controlplane.tailscale.com", ""},
      {"an empty port", "controlplane.tailscale.com:", ""},
      {"another port", "controlplane.tailscale.com:22", ""},
      {"a port with a sign", "controlplane.tailscale.com:+443", ""},
      {"a port with a zero in front", "controlplane.tailscale.com:0443", ""},
      {"another domain", "example.com:443", ""},
      {"a domain that ends alike", "eviltailscale.com:443", ""},
      {"the domain itself", "tailscale.com:443", ""},
      {"a DERP server", "derp9.tailscale.com:443", ""},
      {"derp within a label", "my-derper.tailscale.com:443", ""},
      {"two ports", "controlplane.tailscale.com:443:443", ""},
      {"an address with a zone", "[::1%25.tailscale.com]:80", ""},
      {"an address with a zone, undone", "::1%.tailscale.com:80", ""},
      {"a user", "me@controlplane.tailscale.com:443", ""},
      {"a path", "/controlplane.tailscale.com:443", ""},
      {"a zero byte", std::string("a\0.tailscale.com:443", 20), ""},
  };
  for (const auto& [name, target, host, port] : cases) {
    SCOPED_TRACE(name);
    const auto parsed = parse_connect_target(target);
    ASSERT_EQ(parsed.has_value(), !host.empty());
    if (!parsed) {
      EXPECT_FALSE(parsed.error().empty());
      continue;
    }
    EXPECT_EQ(parsed->host, host);
    EXPECT_EQ(parsed->port, port);
  }
}

TEST(Places, AreTakenUpToTheBoundAndGivenBack) {
  Places::Place kept;
  {
    Places places(2);
    auto first = places.take();
    kept = places.take();
    EXPECT_TRUE(first);
    EXPECT_TRUE(kept);
    EXPECT_FALSE(places.take());
    first = {};
    EXPECT_TRUE(places.take()) << "and given back at once";
    auto moved = std::move(kept);
    EXPECT_FALSE(kept);  // NOLINT(bugprone-use-after-move): that is what is tested.
    kept = std::move(moved);
    EXPECT_TRUE(places.take());
  }
  kept = {};  // A place may outlive what it is of.
}

}  // namespace
}  // namespace detour::server
