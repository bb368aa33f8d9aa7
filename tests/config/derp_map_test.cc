#include "config/derp_map.h"

#include <gtest/gtest.h>

namespace detour::config {
namespace {

TEST(DerpMapSnippet, HasEveryFieldThatAnAddressNeeds) {
  const DerpMapEntry entry{.hostname = "203.0.113.7",
                           .cert_name = "sha256-raw:ab",
                           .ipv4 = "203.0.113.7",
                           .derp_port = 8443,
                           .stun_port = 3479};
  EXPECT_EQ(derp_map_snippet(entry), R"({
  "OmitDefaultRegions": false,
  "Regions": {
    "900": {
      "RegionID": 900,
      "RegionCode": "detour",
      "RegionName": "Detour",
      "Nodes": [
        {
          "Name": "900a",
          "RegionID": 900,
          "HostName": "203.0.113.7",
          "CertName": "sha256-raw:ab",
          "IPv4": "203.0.113.7",
          "DERPPort": 8443,
          "STUNPort": 3479
        }
      ]
    }
  }
})");
}

TEST(DerpMapNode, LeavesOutWhatClientsAssume) {
  EXPECT_EQ(derp_map_node({.hostname = "derp.example.com"}),
            R"({"Name":"900a","RegionID":900,"HostName":"derp.example.com"})");
}

TEST(DerpMapNode, SaysThatThereIsNoStunAndThatPort80Answers) {
  EXPECT_EQ(
      derp_map_node({.hostname = "2001:db8::1",
                     .ipv6 = "2001:db8::1",
                     .stun_port = std::nullopt,
                     .can_port80 = true}),
      R"({"Name":"900a","RegionID":900,"HostName":"2001:db8::1","IPv6":"2001:db8::1","STUNPort":-1,"CanPort80":true})");
}

}  // namespace
}  // namespace detour::config
