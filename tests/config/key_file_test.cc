#include "config/key_file.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "support/keys.h"
#include "support/says.h"

namespace detour::config {
namespace {

constexpr std::string_view kDigits =
    "1011111111111111111111111111111111111111111111111111111111111151";

std::string with_digits(std::string_view text) {
  std::string out(text);
  out.replace(out.find('#'), 1, kDigits);
  return out;
}

TEST(FormatKeyFile, WritesWhatDerperWrites) {
  EXPECT_EQ(format_key_file(test::relay_private()),
            with_digits("{\n\t\"PrivateKey\": \"privkey:#\"\n}"));
}

TEST(ParseKeyFile, ReadsBackWhatItWrites) {
  const auto key = crypto::NodePrivate::generate();
  const auto read = parse_key_file("k", format_key_file(key));
  ASSERT_TRUE(read.has_value()) << read.error();
  EXPECT_EQ(read->public_key(), key.public_key());
}

TEST(ParseKeyFile, ReadsWhatGoWouldRead) {
  for (const auto text :
       {"{\"PrivateKey\":\"privkey:#\"}", "{\"PrivateKey\": \"privkey:#\"}\n\n",
        "\r\n{\r\n \"privatekey\":\"privkey:#\"}", "{\"PRIVATEKEY\":\"privkey:#\"}",
        "{\"Version\":3,\"PrivateKey\":\"privkey:#\",\"x\":{\"PrivateKey\":1}}"}) {
    const auto read = parse_key_file("k", with_digits(text));
    ASSERT_TRUE(read.has_value()) << read.error();
    EXPECT_EQ(read->public_key(), test::relay_public());
  }
}

TEST(ParseKeyFile, RefusesTheRestWithoutShowingTheKey) {
  struct Case {
    std::string_view name;
    std::string content;
    std::string_view says;
  };
  const std::string zeros(64, '0');
  const Case kCases[] = {
      {"empty", "", "is empty"},
      {"blank", " \n\t", "is empty"},
      {"no JSON", "hello", "is not JSON"},
      {"cut short", with_digits("{\"PrivateKey\":\"privkey:#"), "is not JSON"},
      {"something behind", with_digits("{\"PrivateKey\":\"privkey:#\"} x"), "is not JSON"},
      {"PEM", "-----BEGIN PRIVATE KEY-----\n", "is a PEM file"},
      {"an array", with_digits("[\"privkey:#\"]"), "is not a JSON object"},
      {"null", "null", "is not a JSON object"},
      {"no field", "{}", "has no field \"PrivateKey\""},
      {"a number", "{\"PrivateKey\":1}", "that is not a text"},
      {"null in the field", "{\"PrivateKey\":null}", "that is not a text"},
      {"no prefix", with_digits("{\"PrivateKey\":\"#\"}"), "that is not privkey:"},
      {"a public key", with_digits("{\"PrivateKey\":\"nodekey:#\"}"), "that is not privkey:"},
      {"63 digits", with_digits("{\"PrivateKey\":\"privkey:#\"}").erase(30, 1), "64 hex digits"},
      {"65 digits", with_digits("{\"PrivateKey\":\"privkey:#0\"}"), "64 hex digits"},
      {"zero", "{\"PrivateKey\":\"privkey:" + zeros + "\"}", "a key of zeros"},
  };
  for (const auto& [name, content, expected] : kCases) {
    SCOPED_TRACE(name);
    const auto read = parse_key_file("/state/relay.key", content);
    ASSERT_FALSE(read.has_value());
    EXPECT_TRUE(test::says(read.error(), "relay key: /state/relay.key: "));
    EXPECT_TRUE(test::says(read.error(), expected));
    EXPECT_TRUE(test::says(read.error(), "mv /state/relay.key /state/relay.key.broken"));
    EXPECT_FALSE(test::says(read.error(), kDigits.substr(0, 16)));
  }
}

TEST(ParseKeyFile, RefusesDeepNestingWithoutFallingOver) {
  EXPECT_FALSE(parse_key_file("k", std::string(60'000, '[')).has_value());
}

}  // namespace
}  // namespace detour::config
