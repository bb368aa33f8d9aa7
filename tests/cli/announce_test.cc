#include "cli/announce.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "support/says.h"

namespace detour::cli {
namespace {

using test::says;

config::Config usual_config() {
  config::Config config;
  config.listen = {.host = "", .port = 8443};
  config.hostname = "203.0.113.7";
  config.version = "0.1.0";
  config.binary_name = "derper";
  return config;
}

acme::ServerCertificate self_signed() {
  acme::ServerCertificate certificate;
  certificate.self_signed = true;
  certificate.pin = "sha256-raw:ab";
  certificate.cert_file = "/certs/203.0.113.7.crt";
  certificate.not_after = std::chrono::sys_days{std::chrono::June / 1 / 2036};
  return certificate;
}

TEST(Announcement, HasThePortsThatTheSystemChose) {
  auto config = usual_config();
  config.listen.port = 0;
  const auto certificate = self_signed();
  const Announcement announcement{.config = config,
                                  .certificate = &certificate,
                                  .public_key = "nodekey:00",
                                  .port = 4711,
                                  .http_port = 4712,
                                  .stun_port = 4713};
  const auto text = announcement_text(announcement);
  EXPECT_TRUE(text.starts_with("Detour 0.1.0 is serving.\n"));
  EXPECT_TRUE(says(
      text, "\nAddress:     :4711 (DERP over TLS, HTTP on port 4712, STUN on UDP port 4713)\n"));
  EXPECT_TRUE(says(text, "\nHost name:   203.0.113.7\n"));
  EXPECT_TRUE(says(text, "\nPublic key:  nodekey:00\n"));
  EXPECT_TRUE(says(text, "/certs/203.0.113.7.crt, self-signed, valid until 2036-06-01\n"));
  EXPECT_TRUE(says(text, "\nPin:         sha256-raw:ab\n"));
  EXPECT_TRUE(says(text, "\"DERPPort\": 4711"));
  EXPECT_TRUE(says(text, "\"STUNPort\": 4713"));
  EXPECT_TRUE(text.ends_with("}\n"));
}

TEST(Announcement, WordsTheLogLikeDerper) {
  const auto config = usual_config();
  const auto certificate = self_signed();
  const auto lines = announcement_lines({.config = config,
                                         .certificate = &certificate,
                                         .public_key = "nodekey:00",
                                         .port = 8443,
                                         .http_port = 80,
                                         .stun_port = 3478});
  EXPECT_TRUE(says(lines, "STUN server listening on :3478\n"));
  EXPECT_TRUE(says(lines, "derper: serving on :8443 with TLS\n"));
  EXPECT_TRUE(says(
      lines,
      R"({"Name":"900a","RegionID":900,"HostName":"203.0.113.7","CertName":"sha256-raw:ab",)"));
  EXPECT_TRUE(says(lines, "\"CanPort80\":true"));
}

TEST(Announcement, LeavesOutWhatThereIsNot) {
  auto config = usual_config();
  config.tls = false;
  const Announcement announcement{.config = config,
                                  .certificate = nullptr,
                                  .public_key = "nodekey:00",
                                  .port = 8443,
                                  .http_port = std::nullopt,
                                  .stun_port = std::nullopt};
  const auto text = announcement_text(announcement);
  EXPECT_TRUE(says(text, ":8443 (DERP over plain HTTP)\n"));
  EXPECT_TRUE(says(text, "Clients need TLS"));
  EXPECT_FALSE(says(text, "Regions"));
  const auto lines = announcement_lines(announcement);
  EXPECT_TRUE(says(lines, "derper: serving on :8443\n"));
  EXPECT_FALSE(says(lines, "STUN") || says(lines, "TLS"));
}

TEST(MapEntry, DialsAnAddressByItsFamilyAndPinsOnlyWhatIsSelfSigned) {
  auto config = usual_config();
  auto certificate = self_signed();
  const Announcement announcement{.config = config,
                                  .certificate = &certificate,
                                  .public_key = "",
                                  .port = 443,
                                  .http_port = 8080,
                                  .stun_port = std::nullopt};
  EXPECT_EQ(map_entry(announcement).ipv4, "203.0.113.7");
  EXPECT_EQ(map_entry(announcement).cert_name, "sha256-raw:ab");
  EXPECT_EQ(map_entry(announcement).stun_port, std::nullopt);
  EXPECT_FALSE(map_entry(announcement).can_port80);

  config.hostname = "2001:db8::1";
  EXPECT_EQ(map_entry(announcement).ipv6, "2001:db8::1");
  EXPECT_EQ(map_entry(announcement).ipv4, "");

  config.hostname = "derp.example.com";
  certificate.self_signed = false;
  EXPECT_EQ(map_entry(announcement).ipv6, "");
  EXPECT_EQ(map_entry(announcement).cert_name, "");
}

}  // namespace
}  // namespace detour::cli
