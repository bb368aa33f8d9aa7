#include "cli/setec.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace detour::cli {
namespace {

TEST(Setec, NamesTheMeshKeyAsDerperDoes) {
  struct Case {
    std::string_view prefix;
    std::string_view name;
  };
  for (const auto& [prefix, name] : {Case{"prod/derp", "prod/derp/meshkey"},
                                     {"prod/derp/", "prod/derp/meshkey"},
                                     {"a//b", "a/b/meshkey"},
                                     {"a/../b", "b/meshkey"},
                                     {"", "meshkey"}})
    EXPECT_EQ(setec_mesh_key_name(prefix), name);
}

TEST(Setec, AsksForTheActiveVersionOrForAChange) {
  EXPECT_EQ(setec_request("prod/derp/meshkey", 0),
            R"({"Name":"prod/derp/meshkey","UpdateIfChanged":false,"Version":0})");
  EXPECT_EQ(setec_request("a\"b", 7), R"({"Name":"a\"b","UpdateIfChanged":true,"Version":7})");
}

TEST(Setec, TakesNothingForAnAnswerThatIsNone) {
  const auto good = read_setec_answer(R"({"Value":"aGVsbG8=","Version":4294967295,"More":[]})");
  ASSERT_TRUE(good.has_value());
  EXPECT_EQ(good->value, "hello");
  EXPECT_EQ(good->version, 4294967295U);
  for (const std::string_view bad :
       {"", "null", "[]", "{", R"({"Value":"aGVsbG8="})", R"({"Version":1})",
        R"({"Value":"aGVsbG8=","Version":0})", R"({"Value":"aGVsbG8=","Version":4294967296})",
        R"({"Value":"aGVsbG8=","Version":-1})", R"({"Value":"aGVsbG8=","Version":"1"})",
        R"({"Value":"#","Version":1})", R"({"Value":5,"Version":1})"}) {
    SCOPED_TRACE(bad);
    EXPECT_FALSE(read_setec_answer(bad).has_value());
  }
}

TEST(Setec, ReadsAndWritesTheCacheOfSetecsOwnClient) {
  // Written by github.com/tailscale/setec/client/setec.
  constexpr std::string_view kTheirs =
      R"({"other":{"secret":{"Value":"eA==","Version":2},"lastAccess":"1700000000"},)"
      R"("prod/derp/meshkey":{"secret":{"Value":"aGVsbG8=","Version":3},"lastAccess":"1700000000"}})";
  const auto read = read_setec_cache(kTheirs, "prod/derp/meshkey");
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->value, "hello");
  EXPECT_EQ(read->version, 3U);
  EXPECT_FALSE(read_setec_cache(kTheirs, "meshkey").has_value());
  for (const std::string_view bad : {"", "null", "[]", "{", R"({"meshkey":null})",
                                     R"({"meshkey":{}})", R"({"meshkey":{"secret":null}})"})
    EXPECT_FALSE(read_setec_cache(bad, "meshkey").has_value()) << bad;

  EXPECT_EQ(
      write_setec_cache(kTheirs, "prod/derp/meshkey", {.value = "good bye", .version = 4},
                        1800000000),
      R"({"other":{"lastAccess":"1700000000","secret":{"Value":"eA==","Version":2}},)"
      R"("prod/derp/meshkey":{"lastAccess":"1800000000","secret":{"Value":"Z29vZCBieWU=","Version":4}}})");
  EXPECT_EQ(write_setec_cache("damaged", "a", {.value = "", .version = 1}, 0),
            R"({"a":{"lastAccess":"0","secret":{"Value":"","Version":1}}})");
}

}  // namespace
}  // namespace detour::cli
