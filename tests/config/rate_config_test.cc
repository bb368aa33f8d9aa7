#include "config/rate_config.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "support/temp_folder.h"

namespace detour::config {
namespace {

TEST(RateConfig, IsReadAsGoReadsIt) {
  struct Case {
    const char* name;
    const char* content;
    RateConfig parsed;
  };
  const Case cases[] = {
      {"both",
       R"({"PerClientRateLimitBytesPerSec": 1250000, "PerClientRateBurstBytes": 2500000})",
       {1250000, 2500000}},
      {"names in any case",
       R"({"perclientratelimitbytespersec":5,"PERCLIENTRATEBURSTBYTES":6})",
       {5, 6}},
      {"nothing", "{}", {0, 0}},
      {"null is nothing", "null", {0, 0}},
      {"a field of null is left alone", R"({"PerClientRateBurstBytes":null})", {0, 0}},
      {"the last of several counts",
       R"({"PerClientRateLimitBytesPerSec":1,"perclientratelimitbytespersec":2})",
       {2, 0}},
      {"others are ignored",
       R"({"Other":{"PerClientRateBurstBytes":9},"List":[1,"x"],"PerClientRateBurstBytes":7})",
       {0, 7}},
      {"the largest number",
       R"({"PerClientRateLimitBytesPerSec":18446744073709551615})",
       {18446744073709551615U, 0}},
      {"white space around", " \n{\"PerClientRateBurstBytes\":1}\n ", {0, 1}},
  };
  for (const auto& [name, content, parsed] : cases) {
    SCOPED_TRACE(name);
    const auto result = parse_rate_config("/r.json", content);
    ASSERT_TRUE(result.has_value()) << result.error();
    EXPECT_EQ(*result, parsed);
  }
}

TEST(RateConfig, WhatIsWrongIsNamedWithTheFileAndWhatToWrite) {
  struct Case {
    const char* name;
    const char* content;
    const char* says;
  };
  const Case cases[] = {
      {"empty", "", "is not valid JSON"},
      {"cut off", R"({"PerClientRateBurstBytes":1)", "is not valid JSON"},
      {"something behind", "{} x", "is not valid JSON"},
      {"a list", "[]", "is not a JSON object"},
      {"a number", "5", "is not a JSON object"},
      {"negative", R"({"PerClientRateBurstBytes":-1})", "PerClientRateBurstBytes is -1"},
      {"a text", R"({"PerClientRateLimitBytesPerSec":"5"})",
       "PerClientRateLimitBytesPerSec is \"5\""},
      {"a fraction", R"({"PerClientRateBurstBytes":1.5})", "PerClientRateBurstBytes is 1.5"},
      {"an exponent", R"({"PerClientRateBurstBytes":1e6})", "PerClientRateBurstBytes is 1e6"},
      {"one too many", R"({"PerClientRateBurstBytes":18446744073709551616})",
       "PerClientRateBurstBytes is 18446744073709551616"},
      {"a truth value", R"({"PerClientRateBurstBytes":true})", "PerClientRateBurstBytes is true"},
      {"an object", R"({"PerClientRateBurstBytes":{}})", "PerClientRateBurstBytes is an object"},
  };
  for (const auto& [name, content, says] : cases) {
    SCOPED_TRACE(name);
    const auto result = parse_rate_config("/r.json", content);
    ASSERT_FALSE(result.has_value());
    EXPECT_NE(result.error().find("rate config /r.json: "), std::string::npos) << result.error();
    EXPECT_NE(result.error().find(says), std::string::npos) << result.error();
    EXPECT_NE(result.error().find("write for example {\"PerClient"), std::string::npos);
  }
}

TEST(RateConfig, AFileThatIsNotThereIsNamed) {
  const test::TempFolder folder;
  const std::string path = folder.path("rate.json");
  const auto missing = load_rate_config(path);
  ASSERT_FALSE(missing.has_value());
  EXPECT_NE(missing.error().find(path), std::string::npos) << missing.error();
  std::ofstream(path) << R"({"PerClientRateLimitBytesPerSec": 7})";
  const auto loaded = load_rate_config(path);
  ASSERT_TRUE(loaded.has_value()) << loaded.error();
  EXPECT_EQ(loaded->per_client_bytes_per_second, 7U);
}

}  // namespace
}  // namespace detour::config
