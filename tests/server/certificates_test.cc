#include "server/certificates.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace detour::server {
namespace {

using acme::Identifier;

config::Config acme_config(std::string hostname, std::string listen, bool ip_certs) {
  config::Config config;
  config.cert_mode = config::CertMode::kLetsEncrypt;
  config.hostname = std::move(hostname);
  config.listen = {.host = std::move(listen), .port = 443};
  config.acme_ip_certs = ip_certs;
  return config;
}

TEST(IdentifiersToOrder, AreTheNameAndTheAddressesThatClientsCanReach) {
  const std::vector<std::string> local = {"127.0.0.1", "10.0.0.5", "8.8.4.4",
                                          "::1",       "fe80::1",  "2606:4700::1"};
  const Identifier name{.value = "relay.test"};
  const Identifier ipv4{.value = "8.8.4.4", .is_ip = true};
  const Identifier ipv6{.value = "2606:4700::1", .is_ip = true};
  const auto wanted = [&](const config::Config& config) {
    return identifiers_to_order(config, local);
  };
  using List = std::vector<Identifier>;
  EXPECT_EQ(wanted(acme_config("relay.test", "", false)), (List{name}));
  EXPECT_EQ(wanted(acme_config("relay.test", "", true)), (List{name, ipv4, ipv6}));
  EXPECT_EQ(wanted(acme_config("8.8.4.4", "", true)), (List{ipv4, ipv6}));
  EXPECT_EQ(wanted(acme_config("2606:4700:0::1", "::", true)), (List{ipv6, ipv4}));
  EXPECT_EQ(wanted(acme_config("relay.test", "10.0.0.5", true)),
            (List{name, {.value = "10.0.0.5", .is_ip = true}}))
      << "who names an address means it";
}

TEST(IdentifiersToOrder, HaveABound) {
  std::vector<std::string> local;
  for (int i = 1; i <= 20; ++i) local.push_back("8.8.8." + std::to_string(i));
  EXPECT_EQ(identifiers_to_order(acme_config("relay.test", "", true), local).size(),
            acme::kIdentifiersMax);
}

TEST(IsPublicIp, KnowsTheRangesThatNoAuthorityReaches) {
  for (const auto* const ip : {"8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.0.1",
                               "172.32.0.1", "2606:4700::1", "3fff::1"})
    EXPECT_TRUE(is_public_ip(ip)) << ip;
  for (const auto* const ip :
       {"", "name", "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.1.1", "172.16.0.1",
        "172.31.255.255", "192.168.1.1", "192.0.2.1", "224.0.0.1", "255.255.255.255", "::", "::1",
        "fe80::1", "fd7a:115c:a1e0::1", "2001:db8::1", "4000::1"})
    EXPECT_FALSE(is_public_ip(ip)) << ip;
}

}  // namespace
}  // namespace detour::server
