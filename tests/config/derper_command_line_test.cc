#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include "config/command_line.h"
#include "support/command_lines.h"
#include "support/says.h"

namespace detour::config {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using test::environment_at;
using test::says;
using test::started;
using Args = std::vector<std::string>;

CommandLine parse(const Args& args, const Environment& environment = environment_at("/home/derp")) {
  return parse_derper_command_line(args, environment, {.name = "derper", .version = "0.1.0"});
}

/// A command line that serves with TLS, and some more flags.
Args served(const Args& more) {
  Args args = {"-c",       "k",     "-certmode", "manual",
               "-certdir", "certs", "-hostname", "derp.example.com"};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

Start start_with(const Args& args, const Environment& environment = environment_at("/home/derp")) {
  return started(parse(args, environment));
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

TEST(DerperCommandLine, GetsCertificatesFromLetsEncryptByDefault) {
  const auto start = start_with({"-c", "k", "-hostname", "derp.example.com"});
  EXPECT_TRUE(start.config.tls);
  EXPECT_EQ(start.config.cert_mode, CertMode::kLetsEncrypt);
  EXPECT_EQ(start.config.cert_dir, "/home/derp/.cache/tailscale/derper-certs");
  EXPECT_EQ(start_with(served({})).config.cert_mode, CertMode::kManual);
}

TEST(DerperCommandLine, TakesEveryFlagThatDerperHas) {
  const auto start = start_with({"-c",
                                 "k",
                                 "-hostname",
                                 "derp.example.com",
                                 "-certmode",
                                 "gcp",
                                 "-acme-eab-kid",
                                 "kid",
                                 "-acme-eab-key",
                                 "a-_b",
                                 "-acme-email",
                                 "me@example.com",
                                 "-mesh-psk-file",
                                 "/psk",
                                 "-mesh-with",
                                 "a.example.com,b.example.com:8443/10.0.0.2",
                                 "-bootstrap-dns-names",
                                 "a.example,b.example",
                                 "-unpublished-bootstrap-dns-names",
                                 "c.example/txt.example",
                                 "-verify-clients",
                                 "-verify-client-url",
                                 "https://x.example/a,b",
                                 "-verify-client-url-fail-open=false",
                                 "-socket",
                                 "/run/a,b.sock",
                                 "-accept-connection-limit",
                                 "2.5",
                                 "-accept-connection-burst",
                                 "7",
                                 "-rate-config",
                                 "/rate.json",
                                 "-disallow-app-names",
                                 "one, two words",
                                 "-ace",
                                 "-secrets-url",
                                 "https://secrets.example",
                                 "-secrets-path-prefix",
                                 "x",
                                 "-secrets-cache-dir",
                                 "/x"});
  const Config& config = start.config;
  EXPECT_EQ(config.cert_mode, CertMode::kGcp);
  EXPECT_EQ(config.acme_eab_kid, "kid");
  EXPECT_EQ(config.acme_eab_key, "a-_b");
  EXPECT_EQ(config.acme_email, "me@example.com");
  EXPECT_EQ(config.mesh_key_file, "/psk");
  EXPECT_EQ(config.mesh_with,
            (std::vector<MeshPeer>{{.host = "a.example.com", .dial_host = ""},
                                   {.host = "b.example.com:8443", .dial_host = "10.0.0.2"}}));
  EXPECT_EQ(config.bootstrap_dns_names, (Args{"a.example", "b.example"}));
  EXPECT_EQ(config.unpublished_bootstrap_dns_names, Args{"c.example/txt.example"});
  EXPECT_TRUE(config.verify_clients);
  EXPECT_EQ(config.verify_urls, Args{"https://x.example/a,b"}) << "derper has one";
  EXPECT_FALSE(config.verify_fail_open);
  EXPECT_EQ(config.tailscaled_sockets, Args{"/run/a,b.sock"}) << "derper has one";
  EXPECT_EQ(config.accept_connections_per_second, 2.5);
  EXPECT_EQ(config.accept_connections_burst, 7U);
  EXPECT_EQ(config.rate_config_file, "/rate.json");
  EXPECT_EQ(config.disallowed_app_names, (Args{"one", "two words"}));
  EXPECT_TRUE(config.ace);
  EXPECT_EQ(config.secrets_url, "https://secrets.example");
  EXPECT_EQ(config.secrets_path_prefix, "x");
  EXPECT_EQ(config.secrets_cache_file, "/x");

  const auto plain = start_with(served({})).config;
  EXPECT_FALSE(plain.verify_clients);
  EXPECT_TRUE(plain.verify_fail_open) << "derper's default";
  EXPECT_TRUE(std::isinf(plain.accept_connections_per_second));
  EXPECT_EQ(plain.accept_connections_burst, 9223372036854775807U);
  EXPECT_FALSE(plain.dev);
}

TEST(DerperCommandLine, ForDevelopmentServesPlainHttpWithAThrowAwayKey) {
  Environment environment = environment_at("/home/derp");
  environment.file_exists = [](const std::string&) { return true; };
  environment.variables["TAILSCALE_DERPER_MESH_KEY"] = std::string(64, 'a');
  const auto start = start_with(
      {"-dev", "-a", "127.0.0.1:443", "-c", "k", "-mesh-with", "a.example"}, environment);
  EXPECT_TRUE(start.config.dev);
  EXPECT_EQ(start.config.listen, (ListenAddress{.host = "", .port = 3340}));
  EXPECT_FALSE(start.config.tls);
  EXPECT_EQ(start.config.key_file, "");
  EXPECT_EQ(start.config.mesh_key, std::string(64, 'a'));
  EXPECT_EQ(start.config.mesh_key_file, "") << "derper does not read it with -dev";
  EXPECT_TRUE(start_with({"-dev", "-certmode", "manual"}, environment).config.tls);

  const auto without = start_with(served({}), environment);
  EXPECT_EQ(without.config.mesh_key, "") << "the variable is for -dev";
  EXPECT_EQ(without.config.mesh_key_file, "/home/derp/keys/derp-mesh.key");

  environment.variables["TAILSCALE_DERPER_MESH_KEY"] = std::string(63, 'a');
  const auto refused = parse({"-dev"}, environment);
  ASSERT_FALSE(refused.has_value());
  EXPECT_TRUE(says(refused.error().err, "TAILSCALE_DERPER_MESH_KEY"));
  EXPECT_FALSE(says(refused.error().err, std::string(63, 'a'))) << "a key is never printed";
}

TEST(DerperCommandLine, RefusesWhatDoesNotGoTogether) {
  struct Case {
    Args args;
    std::string_view says;
  };
  const Args acme = {"-c", "k", "-certdir", "certs", "-hostname"};
  const auto with = [](Args args, const Args& more) {
    args.insert(args.end(), more.begin(), more.end());
    return args;
  };
  const Case kCases[] = {
      {served({"-mesh-with", "a.example"}), "-mesh-with needs the key that the relays share"},
      {served({"-mesh-psk-file", "k", "-mesh-with", "a/b/c"}),
       "\"a/b/c\": a name, or name/address"},
      {served({"-mesh-psk-file", "k", "-mesh-with", "https://a.example"}),
       "a name, or name/address"},
      {served({"-mesh-psk-file", "k", "-mesh-with", "a.example:0"}), "\"0\" is no port"},
      {served({"-acme-ip-certs"}), "-acme-ip-certs needs -certmode letsencrypt"},
      {with(acme, {"203.0.113.7"}), "-certmode manual for a certificate that is made here"},
      {with(acme, {"203.0.113.7", "-certmode", "gcp", "-acme-eab-kid", "x", "-acme-eab-key", "x",
                   "-acme-email", "x"}),
       "needs a DNS name as -hostname"},
      {with(acme, {"a.example", "-certmode", "gcp", "-acme-eab-kid", "x", "-acme-eab-key", "x"}),
       "needs -acme-email"},
      {with(acme, {"a.example", "-certmode", "gcp", "-acme-email", "x"}), "needs -acme-eab-kid"},
      {with(acme, {"a.example", "-acme-eab-kid", "x"}), "belong together"},
      {with(acme, {"a.example", "-acme-eab-kid", "x", "-acme-eab-key", "secr et"}),
       "a key in base64"},
      {served({"-secrets-url", "x.example"}), "-secrets-url \"x.example\": a URL that begins"},
      {served({"-verify-client-url", "x.example"}), "-verify-client-url \"x.example\": a URL that"},
      {served({"-accept-connection-limit", "NaN"}), "-accept-connection-limit \"NaN\""},
      {served({"-accept-connection-limit", "-1"}), "a number that is not negative"},
      {served({"-accept-connection-burst", "-1"}), "a number from 0 to"},
      {served({"-disallow-app-names", std::string(33, 'x')}), "at most 32 printable"},
      {{"-c", "k", "-a", ":8080", "-certmode", "nope"},
       "-certmode \"nope\": manual, letsencrypt or"},
  };
  for (const auto& [args, expected] : kCases) {
    SCOPED_TRACE(testing::PrintToString(args));
    const auto parsed = parse(args);
    ASSERT_FALSE(parsed.has_value());
    EXPECT_EQ(parsed.error().status, kExitFatal);
    EXPECT_TRUE(says(parsed.error().err, expected));
    EXPECT_FALSE(says(parsed.error().err, "secr et")) << "a key is never printed";
  }
  EXPECT_TRUE(parse(with(acme, {"203.0.113.7", "-acme-ip-certs"})).has_value());
  EXPECT_TRUE(parse(served({"-disallow-app-names", std::string(32, 'x')})).has_value());
  EXPECT_TRUE(parse({"-c", "k", "-a", ":8080", "-certmode", "gcp"}).has_value())
      << "without TLS there is no certificate";
  EXPECT_TRUE(parse(served({"-secrets-url="})).has_value());
  EXPECT_TRUE(
      parse(served({"-secrets-url", "https://x.example", "-mesh-with", "a.example"})).has_value())
      << "that is where the key comes from";
  EXPECT_EQ(start_with({"-c", "k", "-dev", "-secrets-url", "https://x"}).config.secrets_url, "")
      << "derper does not ask it then";
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
  const auto two = parse(served({"-home", "x", "-stun-port", "70000", "-mesh-with", "a"}));
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
  Environment environment = environment_at("/home/derp");
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
    Environment environment = environment_at("/home/derp");
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
  Environment environment = environment_at("/home/derp");
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
  Environment environment = environment_at("/home/derp");
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

  Environment environment = environment_at("/home/derp");
  environment.file_exists = [](const std::string& path) {
    return path == "/home/derp/keys/derp-mesh.key";
  };
  EXPECT_EQ(start_with(served({}), environment).config.mesh_key_file,
            "/home/derp/keys/derp-mesh.key");
  environment = environment_at("/home/derp");
  environment.variables["DERP_DEBUG_LOGS"] = "1";
  EXPECT_TRUE(says(start_with(served({}), environment).warnings, "DERP_DEBUG_LOGS does nothing"));

  environment = environment_at("/home/derp");
  environment.variables["TS_DEBUG_VERBOSE_DROPS"] = "x," + std::string(64, 'A');
  const auto drops = start_with(served({}), environment);
  EXPECT_EQ(drops.config.log_drops, std::vector<std::string>{"nodekey:" + std::string(64, 'a')});
  EXPECT_TRUE(says(drops.warnings, "TS_DEBUG_VERBOSE_DROPS"));
  EXPECT_TRUE(says(drops.warnings, "it is left out"));
}

TEST(DerperCommandLine, NeedsNoGoodHostNameWithoutTls) {
  const auto start = start_with({"-c", "k", "-a", ":8080", "-hostname", "https://x"});
  EXPECT_EQ(start.config.hostname, "");
  EXPECT_TRUE(says(start.warnings, "a URL is not a host name"));
}

TEST(DerperCommandLine, SaysThatConnectNeedsTls) {
  EXPECT_FALSE(says(start_with(served({"-ace"})).warnings, "-ace"));
  EXPECT_TRUE(says(start_with({"-c", "k", "-a", ":8080", "-ace"}).warnings,
                   "-ace does nothing without TLS"));
}

TEST(Describe, NamesEachValueThatWasSetWithItsSource) {
  Environment environment = environment_at("/home/derp");
  environment.variables["TS_ALLOW_DEBUG_IP"] = "192.0.2.7";
  const auto lines = describe(start_with(served({"-a", "\":8443\""}), environment));
  EXPECT_TRUE(says(lines, "setting: listen = :8443 (from flag -a)"));
  EXPECT_TRUE(says(lines, "setting: cert-dir = certs (from flag -certdir)"));
  EXPECT_TRUE(
      says(lines, "debug-allow-ip = 192.0.2.7 (from environment variable TS_ALLOW_DEBUG_IP)"));
  EXPECT_TRUE(says(lines.back(), "left at their defaults: "));
  EXPECT_TRUE(says(lines.back(), "tcp-write-timeout=2s"));
  EXPECT_FALSE(says(lines.back(), "listen="));
}

}  // namespace
}  // namespace detour::config
