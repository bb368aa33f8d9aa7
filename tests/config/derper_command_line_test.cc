#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "config/command_line.h"
#include "support/says.h"

namespace detour::config {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using test::says;
using Args = std::vector<std::string>;

Environment usual_environment() {
  Environment environment;
  environment.variables = {{"HOME", "/home/derp"}};
  environment.cpus = 4;
  return environment;
}

CommandLine parse(const Args& args, const Environment& environment = usual_environment()) {
  return parse_derper_command_line(args, environment, {.name = "derper", .version = "0.1.0"});
}

/// A command line that serves with TLS, and some more flags.
Args served(const Args& more) {
  Args args = {"-c",       "k",     "-certmode", "manual",
               "-certdir", "certs", "-hostname", "derp.example.com"};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

Start start_with(const Args& args, const Environment& environment = usual_environment()) {
  const auto parsed = parse(args, environment);
  EXPECT_TRUE(parsed.has_value()) << (parsed ? "" : parsed.error().err);
  return parsed.value_or(Start{});
}

TEST(DerperCommandLine, HasDerpersDefaults) {
  const auto start = start_with({"-c", "k", "-certmode", "manual"});
  const Config& config = start.config;
  EXPECT_EQ(config.personality, Personality::kDerper);
  EXPECT_EQ(config.listen, (ListenAddress{.host = "", .port = 443}));
  EXPECT_TRUE(config.tls);
  EXPECT_EQ(config.http_port, 80);
  EXPECT_TRUE(config.stun);
  EXPECT_EQ(config.stun_port, 3478);
  EXPECT_TRUE(config.derp);
  EXPECT_EQ(config.hostname, "derp.tailscale.com");
  EXPECT_EQ(config.key_file, "k");
  EXPECT_EQ(config.cert_dir, "/home/derp/.cache/tailscale/derper-certs");
  EXPECT_EQ(config.cert_file, "");
  EXPECT_FALSE(config.allow_incomplete_chain);
  EXPECT_EQ(config.home, HomePage::kDefault);
  EXPECT_EQ(config.workers, 4U);
  EXPECT_EQ(config.tcp_keepalive_time, std::chrono::minutes(10));
  EXPECT_EQ(config.tcp_user_timeout, seconds(15));
  EXPECT_EQ(config.tcp_write_timeout, seconds(2));
  EXPECT_EQ(config.queue_packets_max, 32U);
  EXPECT_EQ(config.version, "0.1.0");
  EXPECT_EQ(config.binary_name, "derper");
  EXPECT_TRUE(says(start.warnings, "-hostname is not set"));
}

TEST(DerperCommandLine, TakesEveryFlagOfARelay) {
  const auto start = start_with({"-a=203.0.113.7:8443",
                                 "--c",
                                 "/k",
                                 "-certmode=manual",
                                 "-certdir",
                                 "/certs",
                                 "-hostname",
                                 "203.0.113.7",
                                 "-http-port",
                                 "0x1F90",
                                 "-stun=false",
                                 "-stun-port",
                                 "3479",
                                 "-derp=f",
                                 "-home",
                                 "https://example.com/x",
                                 "-tcp-write-timeout",
                                 "1.5s",
                                 "-tcp-user-timeout",
                                 "0",
                                 "-tcp-keepalive-time=1m",
                                 "-allow-incomplete-chain"});
  const Config& config = start.config;
  EXPECT_EQ(config.listen, (ListenAddress{.host = "203.0.113.7", .port = 8443}));
  EXPECT_TRUE(config.tls);
  EXPECT_EQ(config.key_file, "/k");
  EXPECT_EQ(config.cert_dir, "/certs");
  EXPECT_EQ(config.hostname, "203.0.113.7");
  EXPECT_EQ(config.http_port, 8080);
  EXPECT_FALSE(config.stun);
  EXPECT_EQ(config.stun_port, 3479);
  EXPECT_FALSE(config.derp);
  EXPECT_EQ(config.home, HomePage::kRedirect);
  EXPECT_EQ(config.home_redirect, "https://example.com/x");
  EXPECT_EQ(config.tcp_write_timeout, milliseconds(1500));
  EXPECT_EQ(config.tcp_user_timeout, seconds(0));
  EXPECT_EQ(config.tcp_keepalive_time, std::chrono::minutes(1));
  EXPECT_TRUE(config.allow_incomplete_chain);
  EXPECT_TRUE(start.warnings.empty());
}

TEST(DerperCommandLine, ServesTlsOnPort443AndWithManualCertificates) {
  struct Case {
    std::string_view name;
    Args args;
    bool tls;
    std::optional<std::uint16_t> http_port;
  };
  const Case kCases[] = {
      {"443", {"-c", "k", "-certmode", "manual"}, true, 80},
      {"https", {"-c", "k", "-certmode", "manual", "-a", ":https"}, true, 80},
      {"another port, manual", {"-c", "k", "-certmode", "manual", "-a", ":8443"}, true, 80},
      {"another port", {"-c", "k", "-a", ":8443"}, false, std::nullopt},
      {"another port, letsencrypt",
       {"-c", "k", "-a", ":80", "-certmode", "letsencrypt"},
       false,
       std::nullopt},
      {"no HTTP port", {"-c", "k", "-certmode", "manual", "-http-port", "-1"}, true, std::nullopt},
      {"any negative HTTP port",
       {"-c", "k", "-certmode", "manual", "-http-port", "-7"},
       true,
       std::nullopt},
      {"a chosen HTTP port", {"-c", "k", "-certmode", "manual", "-http-port", "0"}, true, 0},
  };
  for (const auto& [name, args, tls, http_port] : kCases) {
    SCOPED_TRACE(name);
    const auto start = start_with(args);
    EXPECT_EQ(start.config.tls, tls);
    EXPECT_EQ(start.config.http_port, http_port);
    EXPECT_EQ(says(start.warnings, "first record does not look like a TLS handshake"), !tls);
  }
}

TEST(DerperCommandLine, SaysWhatToWriteInsteadOfLetsEncrypt) {
  const auto by_default = parse({"-c", "k", "-hostname", "derp.example.com"});
  ASSERT_FALSE(by_default.has_value());
  EXPECT_EQ(by_default.error().status, kExitFatal);
  EXPECT_TRUE(
      says(by_default.error().err, "-certmode letsencrypt (the default with TLS) is not built"));
  EXPECT_TRUE(says(by_default.error().err,
                   "-certmode manual -certdir /home/derp/.cache/tailscale/derper-certs"));
  EXPECT_TRUE(says(by_default.error().err, "derp.example.com.crt (full chain)"));

  const auto address = parse({"-c", "k", "-hostname", "203.0.113.7", "-certdir", "/x"});
  ASSERT_FALSE(address.has_value());
  EXPECT_TRUE(says(address.error().err, "write -certmode manual -certdir /x"));

  const auto gcp = parse({"-c", "k", "-certmode", "gcp", "-a", ":8080"});
  ASSERT_FALSE(gcp.has_value());
  EXPECT_TRUE(says(gcp.error().err, "-certmode gcp is not built yet"));
  const auto nonsense = parse({"-c", "k", "-certmode", "nope", "-a", ":8080"});
  ASSERT_FALSE(nonsense.has_value());
  EXPECT_TRUE(says(nonsense.error().err, "-certmode \"nope\": manual, letsencrypt or gcp"));
}

TEST(DerperCommandLine, RefusesFlagsThatAreNotBuiltUnlessTheyChangeNothing) {
  struct Case {
    std::string_view flag;
    Args fine;  ///< Its default, in another spelling where there is one.
    Args refused;
  };
  const Case kCases[] = {
      {"-accept-connection-burst",
       {"-accept-connection-burst", "0x7fffffffffffffff"},
       {"-accept-connection-burst", "5"}},
      {"-accept-connection-limit",
       {"-accept-connection-limit", "inf"},
       {"-accept-connection-limit", "5"}},
      {"-ace", {"-ace=false"}, {"-ace"}},
      {"-acme-eab-key", {"-acme-eab-key", ""}, {"-acme-eab-key", "x"}},
      {"-acme-eab-kid", {"-acme-eab-kid="}, {"-acme-eab-kid", "x"}},
      {"-acme-email", {"-acme-email="}, {"-acme-email", "x"}},
      {"-acme-ip-certs", {"-acme-ip-certs=0"}, {"-acme-ip-certs"}},
      {"-bootstrap-dns-names", {"-bootstrap-dns-names="}, {"-bootstrap-dns-names", "x"}},
      {"-dev", {"-dev=F"}, {"-dev"}},
      {"-disallow-app-names", {"-disallow-app-names="}, {"-disallow-app-names", "x"}},
      {"-mesh-psk-file", {"-mesh-psk-file="}, {"-mesh-psk-file", "x"}},
      {"-mesh-with", {"-mesh-with="}, {"-mesh-with", "x"}},
      {"-rate-config", {"-rate-config="}, {"-rate-config", "x"}},
      {"-secrets-cache-dir",
       {"-secrets-cache-dir", "/home/derp/.cache/derper-secrets"},
       {"-secrets-cache-dir", "x"}},
      {"-secrets-path-prefix",
       {"-secrets-path-prefix", "prod/derp"},
       {"-secrets-path-prefix", "x"}},
      {"-secrets-url", {"-secrets-url="}, {"-secrets-url", "x"}},
      {"-socket", {"-socket="}, {"-socket", "x"}},
      {"-unpublished-bootstrap-dns-names",
       {"-unpublished-bootstrap-dns-names="},
       {"-unpublished-bootstrap-dns-names", "x"}},
      {"-verify-client-url", {"-verify-client-url="}, {"-verify-client-url", "x"}},
      {"-verify-client-url-fail-open",
       {"-verify-client-url-fail-open=1"},
       {"-verify-client-url-fail-open=false"}},
      {"-verify-clients", {"-verify-clients=false"}, {"-verify-clients"}},
  };
  for (const auto& [flag, fine, refused] : kCases) {
    SCOPED_TRACE(flag);
    EXPECT_TRUE(parse(served(fine)).has_value());
    const auto parsed = parse(served(refused));
    ASSERT_FALSE(parsed.has_value());
    EXPECT_EQ(parsed.error().status, kExitFatal);
    EXPECT_TRUE(says(parsed.error().err, std::string(flag) + " is not built yet: "));
    EXPECT_TRUE(parsed.error().out.empty());
  }
}

TEST(DerperCommandLine, ExitsAsDerperDoes) {
  struct Case {
    Args args;
    int status;
    std::string_view out;
    std::string_view err_begins;
  };
  const Case kCases[] = {
      {{"-version"}, 0, "0.1.0\n", ""},
      {{"--version=true"}, 0, "0.1.0\n", ""},
      {{"-version", "-a", "nonsense"}, 0, "0.1.0\n", ""},  // Values are only looked at to serve.
      {{"-h"}, 0, "", "Usage of derper:\n"},
      {{"--help"}, 0, "", "Usage of derper:\n"},
      {{"-nope"}, 2, "", "flag provided but not defined: -nope\nUsage of derper:\n"},
      {{"-version", "-nope"}, 2, "", "flag provided but not defined: -nope\n"},
      {{"-stun-port", "x"}, 2, "", "invalid value \"x\" for flag -stun-port: parse error\n"},
      {{"-a", "nonsense", "-c", "k"}, 1, "", "derper: listen address \"nonsense\" (flag -a)"},
  };
  for (const auto& [args, status, out, err_begins] : kCases) {
    SCOPED_TRACE(testing::PrintToString(args));
    const auto parsed = parse(args);
    ASSERT_FALSE(parsed.has_value());
    EXPECT_EQ(parsed.error().status, status);
    EXPECT_EQ(parsed.error().out, out);
    EXPECT_TRUE(parsed.error().err.starts_with(err_begins)) << parsed.error().err;
    EXPECT_EQ(parsed.error().err.empty(), err_begins.empty());
  }
}

TEST(DerperCommandLine, ChecksValuesAndSaysAllThatIsWrongTogether) {
  struct Case {
    Args args;
    std::string_view says;
  };
  const Case kCases[] = {
      {{"-stun-port", "65536"}, "-stun-port \"65536\": a port from 0 to 65535"},
      {{"-stun-port", "-1"}, "-stun-port \"-1\""},
      {{"-http-port", "65536"}, "-http-port \"65536\": a port from 0 to 65535, or -1 for none"},
      {{"-http-port", "443"}, "-a and -http-port are both port 443"},
      {{"-home", "ftp://x"}, "-home \"ftp://x\": nothing, the word blank, or a URL"},
      {{"-home", "https://x\r\nSet-Cookie: y"}, "-home"},
      {{"-tcp-write-timeout", "-1s"},
       "-tcp-write-timeout \"-1s\": a duration that is not negative"},
      {{"-tcp-user-timeout", "-1ns"}, "-tcp-user-timeout"},
      {{"-hostname", "https://derp.example.com"}, "write derp.example.com"},
      {{"-c", ""}, "-c is not set"},
      {{"-certdir", ""}, "-certdir is not set"},
  };
  Args all;
  for (const auto& [args, expected] : kCases) {
    SCOPED_TRACE(testing::PrintToString(args));
    const auto parsed = parse(served(args));
    ASSERT_FALSE(parsed.has_value());
    EXPECT_EQ(parsed.error().status, kExitFatal);
    EXPECT_TRUE(says(parsed.error().err, expected));
  }
  const auto two = parse(served({"-home", "x", "-stun-port", "70000", "-verify-clients"}));
  ASSERT_FALSE(two.has_value());
  EXPECT_EQ(std::ranges::count(two.error().err, '\n'), 3);
}

TEST(DerperCommandLine, TakesTheLimitsThemselves) {
  const auto start =
      start_with(served({"-stun-port", "65535", "-http-port", "65535", "-home", "blank",
                         "-tcp-write-timeout", "0", "-tcp-keepalive-time", "-1s"}));
  EXPECT_EQ(start.config.stun_port, 65535);
  EXPECT_EQ(start.config.http_port, 65535);
  EXPECT_EQ(start.config.home, HomePage::kBlank);
  EXPECT_EQ(start.config.tcp_write_timeout, seconds(0));
  EXPECT_EQ(start.config.tcp_keepalive_time, seconds(0)) << "negative is off";
  EXPECT_EQ(start_with(served({"-tcp-keepalive-time", "0"})).config.tcp_keepalive_time, seconds(15))
      << "zero is Go's own default";
}

TEST(DerperCommandLine, TakesDefaultsFromTheEnvironment) {
  Environment environment = usual_environment();
  environment.variables["XDG_CACHE_HOME"] = "/cache";
  environment.is_root = true;
  const auto start = start_with({"-certmode", "manual"}, environment);
  EXPECT_EQ(start.config.key_file, "/var/lib/derper/derper.key");
  EXPECT_EQ(start.config.cert_dir, "/cache/tailscale/derper-certs");

  environment.is_root = false;
  const auto nobody = parse({"-certmode", "manual"}, environment);
  ASSERT_FALSE(nobody.has_value());
  EXPECT_TRUE(says(nobody.error().err, "-c is not set"));

  environment.variables.clear();
  const auto homeless = parse({"-c", "k", "-certmode", "manual"}, environment);
  ASSERT_FALSE(homeless.has_value());
  EXPECT_TRUE(says(homeless.error().err, "neither HOME nor XDG_CACHE_HOME"));
  EXPECT_TRUE(parse({"-c", "k", "-a", ":80"}, environment).has_value()) << "needed with TLS only";
}

TEST(DerperCommandLine, ReadsTheQueueDepthVariable) {
  struct Case {
    std::string_view text;
    std::uint32_t depth;  ///< 0: refused.
  };
  constexpr Case kCases[] = {{"", 32},     {"0", 32},        {"-5", 32},   {"1", 1},
                             {"0x40", 64}, {"65536", 65536}, {"65537", 0}, {"abc", 0}};
  for (const auto& [text, depth] : kCases) {
    SCOPED_TRACE(text);
    Environment environment = usual_environment();
    environment.variables["TS_DEBUG_DERP_PER_CLIENT_SEND_QUEUE_DEPTH"] = text;
    const auto parsed = parse(served({}), environment);
    ASSERT_EQ(parsed.has_value(), depth != 0);
    if (parsed) {
      EXPECT_EQ(parsed->config.queue_packets_max, depth);
      continue;
    }
    EXPECT_TRUE(says(parsed.error().err, "TS_DEBUG_DERP_PER_CLIENT_SEND_QUEUE_DEPTH=\""));
  }
}

TEST(DerperCommandLine, ReadsTheVariablesForDebugPages) {
  Environment environment = usual_environment();
  environment.variables["TS_DEBUG_KEY_PATH"] = "/debug.key";
  environment.variables["TS_ALLOW_DEBUG_IP"] = "192.0.2.7";
  environment.variables["TS_DEBUG_TRUSTED_CIDRS"] = "192.0.2.0/24,2001:db8::/32";
  const auto start = start_with(served({}), environment);
  EXPECT_EQ(start.config.debug_key_file, "/debug.key");
  EXPECT_EQ(start.config.debug_allow_ip, "192.0.2.7");
  EXPECT_EQ(start.config.debug_trusted_cidrs,
            (std::vector<std::string>{"192.0.2.0/24", "2001:db8::/32"}));
  EXPECT_TRUE(start.warnings.empty());

  environment.variables["TS_ALLOW_DEBUG_IP"] = "example.com";
  EXPECT_TRUE(
      says(start_with(served({}), environment).warnings, "TS_ALLOW_DEBUG_IP=\"example.com\""));
  environment.variables["TS_DEBUG_TRUSTED_CIDRS"] = "192.0.2.0/24,,192.0.2.7";
  const auto refused = parse(served({}), environment);
  ASSERT_FALSE(refused.has_value());
  EXPECT_TRUE(says(refused.error().err, "\"192.0.2.7\" is not an address range"));
  EXPECT_TRUE(says(refused.error().err, "\"\" is not an address range"));
}

TEST(DerperCommandLine, TakesTheOverrideForPrivateAuthoritiesFromTheEnvironment) {
  Environment environment = usual_environment();
  environment.variables["DETOUR_ALLOW_INCOMPLETE_CHAIN"] = "1";
  EXPECT_TRUE(start_with(served({}), environment).config.allow_incomplete_chain);
  EXPECT_FALSE(start_with(served({"-allow-incomplete-chain=false"}), environment)
                   .config.allow_incomplete_chain);
  environment.variables["DETOUR_ALLOW_INCOMPLETE_CHAIN"] = "yes";
  EXPECT_FALSE(parse(served({}), environment).has_value());
}

TEST(DerperCommandLine, WarnsOfWhatWouldOtherwiseBeIgnoredSilently) {
  const auto stray = start_with(served({"-stun", "false", "-derp=false"}));
  EXPECT_TRUE(stray.config.stun && stray.config.derp) << "as derper reads it";
  EXPECT_TRUE(says(stray.warnings, "the flags end at the argument \"false\""));

  Environment environment = usual_environment();
  environment.file_exists = [](const std::string& path) {
    return path == "/home/derp/keys/derp-mesh.key";
  };
  EXPECT_TRUE(says(start_with(served({}), environment).warnings,
                   "the mesh key /home/derp/keys/derp-mesh.key is not used"));
  environment = usual_environment();
  environment.variables["DERP_DEBUG_LOGS"] = "1";
  EXPECT_TRUE(
      says(start_with(served({}), environment).warnings, "DERP_DEBUG_LOGS is not built yet"));
}

TEST(DerperCommandLine, NeedsNoGoodHostNameWithoutTls) {
  const auto start = start_with({"-c", "k", "-a", ":8080", "-hostname", "https://x"});
  EXPECT_EQ(start.config.hostname, "");
  EXPECT_TRUE(says(start.warnings, "a URL is not a host name"));
}

TEST(Describe, NamesEachValueThatWasSetWithItsSource) {
  Environment environment = usual_environment();
  environment.variables["TS_ALLOW_DEBUG_IP"] = "192.0.2.7";
  const auto lines = describe(start_with(served({"-a", "\":8443\""}), environment));
  EXPECT_TRUE(says(lines, "setting: listen = :8443 (from flag -a)"));
  EXPECT_TRUE(says(lines, "setting: certdir = certs (from flag -certdir)"));
  EXPECT_TRUE(
      says(lines, "debug-allow-ip = 192.0.2.7 (from environment variable TS_ALLOW_DEBUG_IP)"));
  EXPECT_TRUE(says(lines.back(), "left at their defaults: "));
  EXPECT_TRUE(says(lines.back(), "tcp-write-timeout=2s"));
  EXPECT_FALSE(says(lines.back(), "listen="));
}

}  // namespace
}  // namespace detour::config
