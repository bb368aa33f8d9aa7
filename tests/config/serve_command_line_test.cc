#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "config/command_line.h"
#include "support/command_lines.h"
#include "support/says.h"

namespace detour::config {
namespace {

using std::chrono::seconds;
using test::environment_at;
using test::says;
using test::started;
using Args = std::vector<std::string>;

CommandLine parse(const Args& args, const Environment& environment = environment_at("/home/me")) {
  return parse_serve_command_line(args, environment, {.name = "detour", .version = "0.1.0"});
}

Start start_with(const Args& args, const Environment& environment = environment_at("/home/me")) {
  return started(parse(args, environment));
}

TEST(ServeCommandLine, HasSensibleDefaults) {
  const auto start = start_with({"--hostname", "derp.example.com"});
  const Config& config = start.config;
  EXPECT_EQ(config.personality, Personality::kDetour);
  EXPECT_EQ(config.listen, (ListenAddress{.host = "", .port = 443}));
  EXPECT_TRUE(config.tls);
  EXPECT_EQ(config.http_port, 80);
  EXPECT_TRUE(config.stun);
  EXPECT_EQ(config.stun_port, 3478);
  EXPECT_TRUE(config.derp);
  EXPECT_EQ(config.hostname, "derp.example.com");
  EXPECT_EQ(config.key_file, "/home/me/.local/state/detour/relay.key");
  EXPECT_EQ(config.cert_dir, "/home/me/.local/state/detour/certs");
  EXPECT_EQ(config.workers, 4U);
  EXPECT_EQ(config.tcp_write_timeout, seconds(2));
  EXPECT_EQ(config.tcp_user_timeout, seconds(15));
  EXPECT_EQ(config.tcp_keepalive_time, std::chrono::minutes(10));
  EXPECT_EQ(config.gather, Config{}.gather);
  EXPECT_EQ(config.version, "0.1.0");
  EXPECT_EQ(config.binary_name, "detour");
  EXPECT_TRUE(start.warnings.empty());
}

TEST(ServeCommandLine, TakesEveryOption) {
  const auto start = start_with({"--listen",
                                 "[2001:db8::1]:8443",
                                 "--hostname=derp.example.com",
                                 "--key-file",
                                 "/k",
                                 "--cert",
                                 "/c",
                                 "--key",
                                 "/ck",
                                 "--http-port",
                                 "-1",
                                 "--no-stun",
                                 "--stun-port",
                                 "3479",
                                 "--no-derp",
                                 "--home",
                                 "blank",
                                 "--workers",
                                 "1",
                                 "--tcp-write-timeout",
                                 "0",
                                 "--tcp-user-timeout",
                                 "1m",
                                 "--tcp-keepalive-time",
                                 "0",
                                 "--gather",
                                 "10ms",
                                 "--allow-incomplete-chain"});
  const Config& config = start.config;
  EXPECT_EQ(config.listen, (ListenAddress{.host = "2001:db8::1", .port = 8443}));
  EXPECT_EQ(config.hostname, "derp.example.com");
  EXPECT_EQ(config.key_file, "/k");
  EXPECT_EQ(config.cert_file, "/c");
  EXPECT_EQ(config.cert_key_file, "/ck");
  EXPECT_EQ(config.http_port, std::nullopt);
  EXPECT_FALSE(config.stun);
  EXPECT_EQ(config.stun_port, 3479);
  EXPECT_FALSE(config.derp);
  EXPECT_EQ(config.home, HomePage::kBlank);
  EXPECT_EQ(config.workers, 1U);
  EXPECT_EQ(config.tcp_write_timeout, seconds(0));
  EXPECT_EQ(config.tcp_user_timeout, std::chrono::minutes(1));
  EXPECT_EQ(config.tcp_keepalive_time, seconds(0));
  EXPECT_EQ(config.gather, kGatherMax);
  EXPECT_TRUE(config.allow_incomplete_chain);
}

TEST(ServeCommandLine, TakesShortFormsAndTheLastOfSeveral) {
  EXPECT_EQ(start_with({"-a", "203.0.113.7:1", "-c", "/k"}).config.key_file, "/k");
  EXPECT_EQ(start_with({"--a", "203.0.113.7:1"}).config.listen.port, 1);
  EXPECT_EQ(start_with({"-a203.0.113.7:1"}).config.listen.port, 1);
  EXPECT_EQ(start_with({"--hostname", "a.example", "--hostname", "b.example"}).config.hostname,
            "b.example");
  EXPECT_TRUE(start_with({"--hostname", "a.example", "--no-stun", "--stun"}).config.stun);
  EXPECT_FALSE(start_with({"--hostname", "a.example", "--stun=false"}).config.stun);
  EXPECT_EQ(start_with({"--hostname", "a.example", "--http-port", "off"}).config.http_port,
            std::nullopt);
}

TEST(ServeCommandLine, TakesTheHostNameFromTheListenAddress) {
  const auto start = start_with({"--listen", "203.0.113.7:443"});
  EXPECT_EQ(start.config.hostname, "203.0.113.7");
  EXPECT_TRUE(says(describe(start), "hostname = 203.0.113.7 (from the listen address)"));

  const auto refused = parse({"--listen", "0.0.0.0:443"});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().status, kExitFatal);
  EXPECT_TRUE(says(refused.error().err, "--hostname is not set, and --listen :443 means all"));
  EXPECT_TRUE(parse({"--no-tls"}).has_value()) << "needed with TLS only";
}

TEST(ServeCommandLine, KeepsItsStateWhereItBelongs) {
  struct Case {
    std::string_view name;
    std::map<std::string, std::string, std::less<>> variables;
    bool is_root;
    std::string_view key_file;  ///< Empty: refused.
  };
  const Case kCases[] = {
      {"systemd", {{"STATE_DIRECTORY", "/state"}, {"HOME", "/h"}}, true, "/state/relay.key"},
      {"systemd with two", {{"STATE_DIRECTORY", "/state:/other"}}, false, "/state/relay.key"},
      {"root", {{"HOME", "/root"}}, true, "/var/lib/detour/relay.key"},
      {"XDG", {{"XDG_STATE_HOME", "/x"}, {"HOME", "/h"}}, false, "/x/detour/relay.key"},
      {"home", {{"HOME", "/h"}}, false, "/h/.local/state/detour/relay.key"},
      {"nowhere", {}, false, ""},
  };
  for (const auto& [name, variables, is_root, key_file] : kCases) {
    SCOPED_TRACE(name);
    Environment environment = environment_at("/home/me");
    environment.variables = variables;
    environment.is_root = is_root;
    const auto parsed = parse({"--hostname", "derp.example.com"}, environment);
    ASSERT_EQ(parsed.has_value(), !key_file.empty());
    if (parsed) {
      EXPECT_EQ(parsed->config.key_file, key_file);
    } else {
      EXPECT_TRUE(says(parsed.error().err, "--key-file is not set"));
    }
  }
}

TEST(ServeCommandLine, SaysWhatWasProbablyMeant) {
  struct Case {
    Args args;
    std::string_view says;
  };
  const Case kCases[] = {
      {{"--hostnam", "x"}, "unknown option --hostnam: did you mean --hostname?"},
      {{"--hostnam=x"}, "did you mean --hostname?"},
      {{"--workrs", "2"}, "did you mean --workers?"},
      {{"--nonsense"}, "unknown option --nonsense\n"},
      {{"-hostname", "x"}, "unknown option -hostname: write it with two dashes, --hostname"},
      {{"-hostname=x"}, "write it with two dashes, --hostname=x"},
      {{"-certmode", "manual"}, "unknown option -certmode: write it with two dashes, --certmode"},
      {{"--dev"}, "use --listen 127.0.0.1:3340 --no-tls"},
      {{"--mesh-key=secret"}, "unknown option --mesh-key: others could read it"},
      {{"--version"}, "detour version"},
      {{"false"}, "\"false\" does not belong to any option"},
      {{"--stun-port"}, "option --stun-port needs a value"},
  };
  for (const auto& [args, expected] : kCases) {
    SCOPED_TRACE(testing::PrintToString(args));
    const auto parsed = parse(args);
    ASSERT_FALSE(parsed.has_value());
    EXPECT_EQ(parsed.error().status, kExitUsage);
    EXPECT_TRUE(parsed.error().out.empty());
    EXPECT_TRUE(says(parsed.error().err, expected));
    EXPECT_TRUE(says(parsed.error().err, "detour serve --help"));
  }
}

TEST(ServeCommandLine, SaysAllThatIsWrongTogether) {
  const auto parsed =
      parse({"--listen", "x", "--hostname", "https://a.example", "--stun=maybe", "--workers", "0",
             "--home", "x", "--tcp-write-timeout", "5", "--gather", "11ms", "--key", "/k"});
  ASSERT_FALSE(parsed.has_value());
  EXPECT_EQ(parsed.error().status, kExitFatal);
  const auto& said = parsed.error().err;
  EXPECT_TRUE(says(said, "detour serve: listen address \"x\" (option --listen)"));
  EXPECT_TRUE(says(said, "host name \"https://a.example\" (option --hostname)"));
  EXPECT_TRUE(says(said, "--stun \"maybe\": true or false"));
  EXPECT_TRUE(says(said, "--workers \"0\": a number from 1 to 256"));
  EXPECT_TRUE(says(said, "--home \"x\""));
  EXPECT_TRUE(says(said, "--tcp-write-timeout \"5\": a duration with its unit"));
  EXPECT_TRUE(says(said, "--gather \"11ms\": a duration of at most 10ms"));
  EXPECT_TRUE(says(said, "--key is set and --cert is not"));
}

TEST(ServeCommandLine, BoundsTheNumberOfWorkers) {
  const Args base = {"--hostname", "a.example", "--workers"};
  for (const auto& [text, accepted] :
       {std::pair{"1", true}, {"256", true}, {"0", false}, {"257", false}, {"x", false}}) {
    Args args = base;
    args.emplace_back(text);
    EXPECT_EQ(parse(args).has_value(), accepted) << text;
  }
}

TEST(ServeCommandLine, HelpsOnStandardOutputWithEveryOption) {
  for (const auto flag : {"-h", "--help"}) {
    const auto parsed = parse({flag});
    ASSERT_FALSE(parsed.has_value());
    EXPECT_EQ(parsed.error().status, 0);
    EXPECT_TRUE(parsed.error().err.empty());
    for (const auto option :
         {"-a, --listen", "--tls, --no-tls", "--http-port", "--stun, --no-stun", "--stun-port",
          "--hostname", "-c, --key-file", "--cert ", "--key ", "--cert-dir",
          "--allow-incomplete-chain", "--derp, --no-derp", "--home", "--workers",
          "--tcp-write-timeout", "--tcp-user-timeout", "--tcp-keepalive-time", "--gather",
          "/home/me/.local/state/detour/relay.key"})
      EXPECT_TRUE(says(parsed.error().out, option));
  }
}

TEST(Environment, OfThisProcessHasVariablesAndCpus) {
  ::setenv("DETOUR_TEST_VARIABLE", "a=b", 1);
  const auto environment = Environment::of_this_process();
  EXPECT_EQ(environment.get("DETOUR_TEST_VARIABLE"), "a=b");
  EXPECT_EQ(environment.get("DETOUR_TEST_NOTHING"), "");
  EXPECT_GE(environment.cpus, 1U);
  EXPECT_LE(environment.cpus, kWorkersMax);
  EXPECT_TRUE(environment.file_exists("/"));
  EXPECT_FALSE(environment.file_exists("/nowhere/at/all"));
  ::unsetenv("DETOUR_TEST_VARIABLE");
}

}  // namespace
}  // namespace detour::config
