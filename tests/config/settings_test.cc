#include "config/settings.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "config/command_line.h"
#include "support/command_lines.h"
#include "support/says.h"

namespace detour::config {
namespace {

using test::environment_at;
using test::says;
using test::started;
using Args = std::vector<std::string>;

CommandLine serve(const Args& args, const Environment& environment) {
  return parse_serve_command_line(args, environment, {.name = "detour", .version = "0.1.0"});
}

Environment with_file(const std::string& content) {
  Environment environment = environment_at("/home/me");
  environment.read_file =
      [content](const std::string& path) -> std::expected<std::string, std::string> {
    if (path == "relay.toml") return content;
    return std::unexpected(path + ": does not exist");
  };
  return environment;
}

TEST(SettingsTable, GivesEachNameFlagAndVariableToOneSetting) {
  std::set<std::string> names;
  std::set<std::string> flags;
  std::set<std::string> options;
  std::set<std::string> variables;
  for (const auto& row : settings_table()) {
    SCOPED_TRACE(row.name);
    EXPECT_TRUE(names.emplace(row.name).second);
    EXPECT_FALSE(row.help.empty());
    EXPECT_TRUE(row.derper_flag.empty() || flags.emplace(row.derper_flag).second);
    if (row.has_option) {
      EXPECT_TRUE(options.emplace(row.name).second);
      for (const auto alias : row.aliases)
        EXPECT_TRUE(alias.empty() || options.emplace(alias).second);
    }
    for (const auto& variable : variables_of(row))
      EXPECT_TRUE(variables.insert(variable).second) << variable;
  }
}

TEST(SettingsTable, HasTheVariablesOfTheContainerImages) {
  const std::map<std::string, std::string_view> kSettings = {
      {"DERP_DOMAIN", "hostname"},
      {"DERP_HOSTNAME", "hostname"},
      {"DERP_HOST", "hostname"},
      {"DERP_CERT_MODE", "cert-mode"},
      {"DERP_CERTMODE", "cert-mode"},
      {"DERP_CERT_DIR", "cert-dir"},
      {"DERP_CERTS", "cert-dir"},
      {"DERP_ADDR", "listen"},
      {"DERP_PORT_HTTPS", "listen"},
      {"DERP_HTTP_PORT", "http-port"},
      {"DERP_PORT_HTTP", "http-port"},
      {"DERP_STUN", "stun"},
      {"DERP_ENABLE_STUN", "stun"},
      {"DERP_STUN_PORT", "stun-port"},
      {"DERP_PORT_STUN", "stun-port"},
      {"DERP_VERIFY_CLIENTS", "verify-clients"},
      {"DERP_VERIFY_CLIENT_URL", "verify-client-url"},
  };
  for (const auto& [variable, name] : kSettings) {
    const auto variables = variables_of(setting_row(name));
    EXPECT_NE(std::ranges::find(variables, variable), variables.end()) << variable;
  }
}

TEST(SettingsTable, IsWhollyInTheOperatorsDocumentation) {
  std::ifstream file(DETOUR_TESTDATA "/../../docs/operations.md");
  std::stringstream text;
  text << file.rdbuf();
  for (const auto& row : settings_table()) {
    std::vector<std::string_view> names(row.variables.begin(), row.variables.end());
    if (row.has_option) names.push_back(row.name);
    for (const auto name : names)
      EXPECT_TRUE(name.empty() || says(text.str(), fmt::format("`{}`", name)));
  }
}

/// The same setting in a flag, a variable and a file.
struct Everywhere {
  std::string_view name;
  std::string text;
  std::string toml;
  std::string_view shown;  ///< As the list of settings has it.
};

std::vector<Everywhere> one_of_each_kind() {
  return {
      {"listen", "127.0.0.1:8443", "\"127.0.0.1:8443\"", "127.0.0.1:8443"},
      {"stun", "false", "false", "false"},
      {"http-port", "8080", "8080", "8080"},
      {"http-port", "off", "\"off\"", "off"},
      {"stun-port", "3479", "3479", "3479"},
      {"hostname", "b.example", "\"b.example\"", "b.example"},
      {"key-file", "/k", "\"/k\"", "/k"},
      {"cert-mode", "letsencrypt", "\"letsencrypt\"", "letsencrypt"},
      {"acme-directory", "https://acme.example/dir", "\"https://acme.example/dir\"",
       "https://acme.example/dir"},
      {"verify-client-url", "https://a.example/x https://b.example/?a,b",
       "[\"https://a.example/x\", \"https://b.example/?a,b\"]",
       "https://a.example/x,https://b.example/?a,b"},
      {"socket", "/a,/b", "[\"/a\", \"/b\"]", "/a,/b"},
      {"disallow-app-names", "one, two words,", "[\"one\", \"two words\"]", "one,two words"},
      {"accept-connection-limit", "2.5", "2.5", "2.5"},
      {"accept-connection-limit", "+Inf", "inf", "+Inf"},
      {"accept-connection-burst", "9", "9", "9"},
      {"connections-max", "4294967295", "4294967295", "4294967295"},
      {"workers", "256", "256", "256"},
      {"tcp-write-timeout", "90s", "\"1m30s\"", "1m30s"},
      {"tcp-keepalive-time", "-1s", "\"-1s\"", "0s"},
      {"queue-packets", "64", "64", "64"},
      {"home", "https://x.example", "\"https://x.example\"", "https://x.example"},
      {"trusted-proxies", "10.0.0.0/8, fd00::/8", "[\"10.0.0.0/8\", \"fd00::/8\"]",
       "10.0.0.0/8,fd00::/8"},
      {"metrics-listen", ":9090", "\":9090\"", ":9090"},
      {"debug-allow-ip", "192.0.2.7", "\"192.0.2.7\"", "192.0.2.7"},
  };
}

Setting setting_in(const Start& start, std::string_view name) {
  const auto found = std::ranges::find(start.settings, name, &Setting::name);
  EXPECT_NE(found, start.settings.end()) << name;
  return found == start.settings.end() ? Setting{} : *found;
}

std::string variable_for(std::string_view name) {
  return variables_of(setting_row(name)).front();
}

TEST(Settings, MeanTheSameInFlagVariableAndFile) {
  for (const auto& [name, text, toml, shown] : one_of_each_kind()) {
    SCOPED_TRACE(std::string(name) + " " + text);
    const Args host = name == "hostname" ? Args{} : Args{"--hostname", "a.example"};

    Args flags = host;
    flags.push_back("--" + std::string(name) + "=" + text);
    const auto by_flag = setting_in(started(serve(flags, environment_at("/h"))), name);
    EXPECT_EQ(to_text(by_flag.value), shown);
    EXPECT_EQ(by_flag.origin, Origin::kFlag);

    auto environment = environment_at("/h");
    environment.variables[variable_for(name)] = text;
    const auto by_variable = setting_in(started(serve(host, environment)), name);
    EXPECT_EQ(by_variable.value, by_flag.value);
    EXPECT_EQ(by_variable.origin, Origin::kEnvironment);

    Args file = host;
    file.insert(file.end(), {"--config", "relay.toml"});
    const auto by_file =
        setting_in(started(serve(file, with_file(std::string(name) + " = " + toml))), name);
    EXPECT_EQ(by_file.value, by_flag.value);
    EXPECT_EQ(by_file.origin, Origin::kFile);
    EXPECT_EQ(by_file.source, "relay.toml line 1");
  }
}

TEST(Settings, FlagGoesBeforeEnvironmentBeforeFileBeforeDefault) {
  auto environment = with_file("hostname = \"file.example\"\nstun-port = 1\nhttp-port = 1\n");
  environment.variables["DETOUR_CONFIG"] = "relay.toml";
  environment.variables["DERP_HTTP_PORT"] = "2";
  environment.variables["DERP_DOMAIN"] = "variable.example";
  const auto start = started(serve({"--hostname", "flag.example"}, environment));
  EXPECT_EQ(start.config.hostname, "flag.example");
  EXPECT_EQ(start.config.http_port, 2);
  EXPECT_EQ(start.config.stun_port, 1);
  EXPECT_EQ(start.config.workers, 4U);
  EXPECT_EQ(setting_in(start, "hostname").source, "option --hostname");
  EXPECT_EQ(setting_in(start, "http-port").source, "environment variable DERP_HTTP_PORT");
  EXPECT_EQ(setting_in(start, "stun-port").source, "relay.toml line 2");
  EXPECT_EQ(setting_in(start, "workers").source, "default");
}

TEST(Settings, OfAListAreCollectedFromAllItsFlagsAndReplaceWeakerSources) {
  auto environment = environment_at("/h");
  environment.variables["DERP_VERIFY_CLIENT_URL"] = "https://c.example";
  const auto start = started(serve({"--hostname", "a.example", "--verify-client-url",
                                    "https://a.example", "--verify-client-url=https://b.example"},
                                   environment));
  EXPECT_EQ(start.config.verify_urls, (Args{"https://a.example", "https://b.example"}));
}

TEST(Settings, InTheEnvironmentMayHaveSeveralNamesThatAgree) {
  auto environment = environment_at("/h");
  environment.variables["DERP_DOMAIN"] = "a.example";
  environment.variables["DERP_HOSTNAME"] = "a.example";
  environment.variables["DERP_ADDR"] = ":8443";
  environment.variables["DERP_PORT_HTTPS"] = "8443";
  environment.variables["DERP_STUN"] = "";  // As not set.
  const auto start = started(serve({"--no-derp"}, environment));
  EXPECT_EQ(start.config.hostname, "a.example");
  EXPECT_EQ(start.config.listen.port, 8443);
  EXPECT_TRUE(start.config.stun);

  environment.variables["DERP_HOST"] = "b.example";
  const auto refused = serve({"--no-derp"}, environment);
  ASSERT_FALSE(refused.has_value());
  EXPECT_TRUE(says(refused.error().err,
                   "DERP_HOSTNAME=\"a.example\" and DERP_HOST=\"b.example\" both set hostname"));
}

TEST(Settings, InTheEnvironmentAreCheckedAndGuessed) {
  auto environment = environment_at("/h");
  environment.variables["DERP_HOSTNAME"] = "a.example";
  environment.variables["DERP_STUN"] = "yes";
  const auto refused = serve({"--no-derp"}, environment);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().status, kExitFatal);
  EXPECT_TRUE(
      says(refused.error().err, "environment variable DERP_STUN=\"yes\": true or false is needed"));

  environment.variables["DERP_STUN"] = "1";
  environment.variables["DERP_HOSTNAM"] = "a.example";
  environment.variables["DERP_PORT"] = "tcp://10.0.0.1:443";  // A container platform's.
  environment.variables["DETOUR_METRICSLISTEN"] = ":9090";
  const auto start = started(serve({"--no-derp"}, environment));
  EXPECT_TRUE(says(start.warnings, "DERP_HOSTNAM means nothing: did you mean DERP_HOSTNAME?"));
  EXPECT_TRUE(says(start.warnings, "did you mean DETOUR_METRICS_LISTEN?"));
  EXPECT_EQ(start.warnings.size(), 2U);
}

TEST(ConfigFile, RefusesWhatItDoesNotUnderstandWithTheLine) {
  struct Case {
    std::string content;
    std::string_view says;
  };
  const Case kCases[] = {
      {"stun = true\nhttp-prot = 80",
       "relay.toml line 2: unknown key http-prot: did you mean "
       "http-port?"},
      {"http_port = 80", "did you mean http-port?"},
      {"version = true", "relay.toml line 1: unknown key version"},
      {"nonsense = 1", "relay.toml line 1: unknown key nonsense\n"},
      {"[section]\nx = 1", "unknown key section: there are no tables"},
      {"stun = \"true\"",
       "stun: true or false without quotes is needed, not text in quotes: write "
       "it like stun = true"},
      {"http-port = \"x\"", "relay.toml line 1: http-port \"x\": a port from 0 to 65535"},
      {"stun-port = \"80\"", "stun-port: a whole number without quotes is needed"},
      {"stun-port = 3478.5", "not a number: write it like stun-port = 3478"},
      {"stun-port = 65536", "relay.toml line 1: stun-port \"65536\": a port from 0 to 65535"},
      {"tcp-write-timeout = 2", "a time with its unit in quotes is needed, not a whole number"},
      {"hostname = [\"a\"]", "hostname: text in quotes is needed, not a list"},
      {"mesh-with = [1]", "mesh-with: a list of texts is needed"},
      {"acme-eab-key = 5", "acme-eab-key: text in quotes is needed"},
      {"stun = tru", "relay.toml line 1, column "},
      {"stun = true\nstun = false", "relay.toml line 2, column "},
      {"listen = 2026-01-01", "not a date or time"},
  };
  for (const auto& [content, expected] : kCases) {
    SCOPED_TRACE(content);
    const auto parsed =
        serve({"--hostname", "a.example", "--config", "relay.toml"}, with_file(content));
    ASSERT_FALSE(parsed.has_value());
    EXPECT_EQ(parsed.error().status, kExitFatal);
    EXPECT_TRUE(says(parsed.error().err, expected));
  }
  const auto missing = serve({"--hostname", "a.example", "--config", "other.toml"}, with_file(""));
  ASSERT_FALSE(missing.has_value());
  EXPECT_TRUE(says(missing.error().err, "configuration file other.toml: does not exist"));
}

TEST(ConfigFile, TakesAPortAloneAndOneTextForAList) {
  const auto start = started(
      serve({"--config", "relay.toml"}, with_file("hostname = \"a.example\"\nlisten = 8443\n"
                                                  "bootstrap-dns-names = \"a.example, b.example\"\n"
                                                  "accept-connection-limit = 5\n")));
  EXPECT_EQ(start.config.listen.port, 8443);
  EXPECT_EQ(start.config.bootstrap_dns_names, (Args{"a.example", "b.example"}));
  EXPECT_EQ(start.config.accept_connections_per_second, 5.0);
}

TEST(SettingsAsToml, CanBeReadBackAndGivesTheSameConfiguration) {
  for (const auto& [name, text, toml, shown] : one_of_each_kind()) {
    SCOPED_TRACE(std::string(name) + " " + text);
    const Args args = {"--hostname", "a.example", "--" + std::string(name) + "=" + text};
    const auto start = started(serve(args, environment_at("/h")));
    const auto again =
        started(serve({"--config", "relay.toml"}, with_file(settings_as_toml(start))));
    EXPECT_TRUE(changes_between(start, again).empty());
    EXPECT_EQ(settings_as_toml(start).find('\t'), std::string::npos);
  }
}

TEST(SettingsAsToml, NamesTheSourceAndKeepsSecretsToItself) {
  auto environment = environment_at("/h");
  environment.variables["DETOUR_MESH_KEY"] = std::string(64, 'c');
  const auto start =
      started(serve({"--hostname", "a.example", "--cert-mode", "letsencrypt", "--acme-eab-kid",
                     "kid", "--acme-eab-key", "hushhush", "--home", "https://x.example/\"quote"},
                    environment));
  const auto toml = settings_as_toml(start);
  EXPECT_TRUE(says(toml, "hostname = \"a.example\""));
  EXPECT_TRUE(says(toml, "# option --hostname\n"));
  EXPECT_TRUE(says(toml, "# acme-eab-key is set, and a secret"));
  EXPECT_TRUE(says(toml, "home = \"https://x.example/\\\"quote\""));
  const auto json = settings_as_json(start);
  EXPECT_TRUE(says(json, "\"value\": \"a.example\""));
  EXPECT_TRUE(says(json, "\"source\": \"environment variable DETOUR_MESH_KEY\""));
  std::string all = toml + json;
  for (const auto& line : describe(start)) all += line;
  EXPECT_FALSE(says(all, "hushhush"));
  EXPECT_FALSE(says(all, "cccc"));
}

TEST(ChangesBetween, NamesWhatDiffersAndWhetherItCanBeReloaded) {
  const auto read = [](const std::string& more) {
    return started(
        serve({"--config", "relay.toml"}, with_file("hostname = \"a.example\"\n" + more)));
  };
  EXPECT_TRUE(changes_between(read(""), read("stun = true")).empty()) << "the same value";
  const auto changes = changes_between(
      read("acme-eab-kid = \"k\"\nacme-eab-key = \"one\""),
      read("acme-eab-kid = \"k\"\nacme-eab-key = \"two\"\nallow-file = \"/a\"\nworkers = 2"));
  ASSERT_EQ(changes.size(), 3U);
  EXPECT_EQ(changes[0].name, "acme-eab-key");
  EXPECT_EQ(changes[0].after, "(secret)");
  EXPECT_EQ(changes[1].name, "allow-file");
  EXPECT_EQ(changes[1].before, "");
  EXPECT_EQ(changes[1].after, "/a");
  EXPECT_TRUE(changes[1].reloadable);
  EXPECT_EQ(changes[2].name, "workers");
  EXPECT_FALSE(changes[2].reloadable);
}

std::string keys_in_a_row(int count) {
  std::string keys;
  for (int i = 0; i < count; ++i) keys += fmt::format("nodekey:{:064x},", i + 1);
  return keys;
}

TEST(ServeCommandLine, RefusesWhatDoesNotGoTogether) {
  struct Case {
    Args args;
    std::string_view says;
  };
  const Case kCases[] = {
      {{"--proxy-protocol"}, "--proxy-protocol needs --trusted-proxies"},
      {{"--trusted-proxies", "10.0.0.1"},
       "--trusted-proxies: \"10.0.0.1\" is not an address range"},
      {{"--cert", "/c", "--cert-mode", "letsencrypt"}, "set only one of them"},
      {{"--metrics-listen", ":443"}, "--listen and --metrics-listen are both port 443"},
      {{"--metrics-listen", ":80"}, "--http-port and --metrics-listen are both port 80"},
      {{"--metrics-listen", "x"}, "metrics-listen: listen address \"x\""},
      {{"--acme-directory", "http://acme.example"}, "a URL that begins with https://"},
      {{"--connections-max", "4294967296"}, "a number from 0 to 4294967295"},
      {{"--queue-packets", "65537"}, "a number from 1 to 65536"},
      {{"--log-drops", "nodekey:12"}, "--log-drops \"nodekey:12\": a node key is needed"},
      {{"--log-drops", keys_in_a_row(101)}, "names 101 keys: 100 at most"},
  };
  for (const auto& [args, expected] : kCases) {
    SCOPED_TRACE(testing::PrintToString(args));
    Args all = {"--hostname", "a.example"};
    all.insert(all.end(), args.begin(), args.end());
    const auto parsed = serve(all, environment_at("/h"));
    ASSERT_FALSE(parsed.has_value());
    EXPECT_EQ(parsed.error().status, kExitFatal);
    EXPECT_TRUE(says(parsed.error().err, expected));
  }
  const auto watched = started(
      serve({"--hostname", "a.example", "--log-drops", keys_in_a_row(100)}, environment_at("/h")));
  EXPECT_EQ(watched.config.log_drops.size(), 100U);
  auto environment = environment_at("/h");
  environment.variables["DETOUR_MESH_KEY"] = std::string(64, 'c');
  const auto both = serve({"--hostname", "a.example", "--mesh-psk-file", "/psk"}, environment);
  ASSERT_FALSE(both.has_value());
  EXPECT_TRUE(says(both.error().err, "both give the mesh key"));
  EXPECT_FALSE(says(both.error().err, "cccc"));
  EXPECT_EQ(started(serve({"--hostname", "a.example"}, environment)).config.mesh_key,
            std::string(64, 'c'));
}

TEST(ServeCommandLine, IsClosedWhenVerificationFailsUnlikeDerper) {
  EXPECT_FALSE(
      started(serve({"--hostname", "a.example"}, environment_at("/h"))).config.verify_fail_open);
}

TEST(ServeCommandLine, WarnsOfMetricsThatEverybodyCanRead) {
  const auto warnings = [](const Args& more) {
    Args args = {"--hostname", "a.example"};
    args.insert(args.end(), more.begin(), more.end());
    return started(serve(args, environment_at("/h"))).warnings;
  };
  EXPECT_TRUE(says(warnings({"--metrics-listen", ":9090"}),
                   "--metrics-listen \":9090\": everybody who reaches that port"));
  EXPECT_TRUE(warnings({"--metrics-listen", ":9090", "--metrics-token-file", "/t"}).empty());
  EXPECT_TRUE(warnings({"--metrics-listen", "127.0.0.1:9090"}).empty());
  EXPECT_TRUE(warnings({"--metrics-listen", "[::1]:9090"}).empty());
}

TEST(ServeCommandLine, WarnsOfSettingsThatDoNothing) {
  const auto start =
      started(serve({"--hostname", "a.example", "--socket", "/s", "--metrics-token-file", "/t",
                     "--verify-client-url-auth-file", "/a", "--acme-email", "x"},
                    environment_at("/h")));
  EXPECT_TRUE(says(start.warnings, "--socket does nothing without --verify-clients"));
  EXPECT_TRUE(says(start.warnings, "--metrics-token-file does nothing without --metrics-listen"));
  EXPECT_TRUE(says(start.warnings, "--verify-client-url-auth-file does nothing without"));
  EXPECT_TRUE(says(start.warnings, "--acme-email does nothing with --cert-mode manual"));
}

}  // namespace
}  // namespace detour::config
