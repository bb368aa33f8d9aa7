#include "derp/json_fields.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace detour::derp {
namespace {

std::string describe_value(const JsonScalar& value) {
  if (std::holds_alternative<JsonNull>(value)) return "null";
  if (const auto* boolean = std::get_if<bool>(&value)) return *boolean ? "true" : "false";
  if (const auto* number = std::get_if<std::int64_t>(&value)) return std::to_string(*number);
  if (const auto* text = std::get_if<std::string_view>(&value)) {
    return "'" + std::string(*text) + "'";
  }
  return "other";
}

/// "name=value" of each field, joined with spaces; "error" when the text was refused.
std::string fields_of(std::string_view json) {
  std::string fields;
  const auto read = read_json_fields(
      json, [&fields](std::string_view name, const JsonScalar& value) -> Result<void> {
        if (!fields.empty()) fields += ' ';
        fields += std::string(name) + "=" + describe_value(value);
        return {};
      });
  return read ? fields : "error";
}

std::string nested(std::size_t arrays) {
  return R"({"x":)" + std::string(arrays, '[') + std::string(arrays, ']') + "}";
}

TEST(ReadJsonFields, GivesTheFieldsOfTheOutermostObjectInOrder) {
  EXPECT_EQ(fields_of(R"({"b":1,"a":"x","c":null,"d":true,"b":2})"), "b=1 a='x' c=null d=true b=2");
  EXPECT_EQ(fields_of(R"({"a":{"b":1,"c":[{"b":2}]},"d":[1,2,{"a":3}],"e":4})"),
            "a=other d=other e=4");
}

TEST(ReadJsonFields, FoldsNamesAsGoDoes) {
  EXPECT_EQ(fields_of(R"({"MeshKEY":1})"), "meshkey=1");
  EXPECT_EQ(fields_of("{\"ver\u017fion\":1}"), "version=1");          // Long s.
  EXPECT_EQ(fields_of("{\"CanAc\u212aPings\":1}"), "canackpings=1");  // Kelvin sign.
  EXPECT_EQ(fields_of(R"({"ver\u017fion":1,"\u0076":2})"), "version=1 v=2");
  EXPECT_EQ(fields_of(R"({"mesh_key":1,"version ":2})"), "mesh_key=1 version =2");
}

TEST(ReadJsonFields, TellsIntegersWithinInt64FromOtherNumbers) {
  EXPECT_EQ(fields_of(R"({"a":0,"b":-0,"c":-1})"), "a=0 b=0 c=-1");
  EXPECT_EQ(fields_of(R"({"a":9223372036854775807})"), "a=9223372036854775807");
  EXPECT_EQ(fields_of(R"({"a":9223372036854775808})"), "a=other");
  EXPECT_EQ(fields_of(R"({"a":-9223372036854775808})"), "a=-9223372036854775808");
  EXPECT_EQ(fields_of(R"({"a":-9223372036854775809})"), "a=other");
  EXPECT_EQ(fields_of(R"({"a":123456789012345678901234567890})"), "a=other");
  EXPECT_EQ(fields_of(R"({"a":2.0,"b":1e3})"), "a=other b=other");
}

TEST(ReadJsonFields, TakesNullAtTheTopForAnEmptyObject) {
  EXPECT_EQ(fields_of("null"), "");
  EXPECT_EQ(fields_of(" null\n"), "");
  EXPECT_EQ(fields_of("{}"), "");
}

TEST(ReadJsonFields, RefusesAnythingElseAtTheTop) {
  for (const std::string_view json : {"[]", "[{}]", "1", "\"x\"", "true", "1.5"}) {
    SCOPED_TRACE(json);
    const auto read = read_json_fields(json, [](auto, const auto&) { return Result<void>{}; });
    ASSERT_FALSE(read.has_value());
    EXPECT_EQ(read.error().code, ErrorCode::kJsonFieldInvalid);
  }
}

TEST(ReadJsonFields, RefusesWhatGoRefuses) {
  // Each of these was given to Go's encoding/json, which refused it too.
  using namespace std::string_view_literals;
  constexpr std::string_view kTexts[] = {
      ""sv,
      " "sv,
      "{"sv,
      "}"sv,
      R"({"version")"sv,
      R"({"version":)"sv,
      R"({"version":2)"sv,
      R"({"version":2,})"sv,
      R"({version:2})"sv,
      R"({'a':1})"sv,
      R"({"a":1 "b":2})"sv,
      R"({"a":NaN})"sv,
      R"({"a":tru})"sv,
      R"({"a":01})"sv,
      R"({"a":+1})"sv,
      R"({"a":"\q"})"sv,
      "{\"a\":\"\x01\"}"sv,
      R"({/*comment*/})"sv,
      "{}x"sv,
      "{}{}"sv,
      "{}null"sv,
      "{}\v"sv,
      "{}\0"sv,
      "{}\0x"sv,
      "{\"a\0\":1}"sv,
      "\xef\xbb\xbf{}"sv,
  };
  for (const auto json : kTexts) {
    SCOPED_TRACE(json);
    const auto read = read_json_fields(json, [](auto, const auto&) { return Result<void>{}; });
    ASSERT_FALSE(read.has_value());
    EXPECT_EQ(read.error().code, ErrorCode::kJsonInvalid);
  }
}

TEST(ReadJsonFields, IsStricterThanGoOnlyWhereNoClientComesNear) {
  EXPECT_EQ(fields_of(R"({"x":"\ud800"})"), "error");
  EXPECT_EQ(fields_of(R"({"x":1e400})"), "error");
  EXPECT_EQ(fields_of(R"({"x":"\ud83d\ude00"})"), "x='\xf0\x9f\x98\x80'");
}

TEST(ReadJsonFields, TakesBytesThatAreNoUtf8ForTheReplacementCharacter) {
  struct Case {
    std::string_view name;
    std::string_view bytes;
    std::string_view read;
  };
  constexpr Case kCases[] = {
      {"a byte that never occurs",
       "a\xff"
       "b",
       "a\ufffdb"},
      {"a continuation alone", "\x80", "\ufffd"},
      {"a sequence cut short", "\xc3", "\ufffd"},
      {"cut short before another",
       "\xe2\x82"
       "x",
       "\ufffd\ufffdx"},
      {"an overlong form", "\xc0\xaf", "\ufffd\ufffd"},
      {"an overlong form of three", "\xe0\x9f\xbf", "\ufffd\ufffd\ufffd"},
      {"a surrogate", "\xed\xa0\x80", "\ufffd\ufffd\ufffd"},
      {"the last code point", "\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},
      {"one beyond it", "\xf4\x90\x80\x80", "\ufffd\ufffd\ufffd\ufffd"},
      {"two, three and four bytes", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
       "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
  };
  for (const auto& [name, bytes, read] : kCases) {
    SCOPED_TRACE(name);
    EXPECT_EQ(fields_of("{\"x\":\"" + std::string(bytes) + "\"}"), "x='" + std::string(read) + "'");
  }
  EXPECT_EQ(fields_of("{\"x\":1}\xff"), "error");
}

TEST(ReadJsonFields, BoundsTheNesting) {
  // The object itself is one level.
  EXPECT_EQ(fields_of(nested(kJsonNestingMax - 1)), "x=other");
  EXPECT_EQ(fields_of(nested(kJsonNestingMax)), "error");
  EXPECT_EQ(fields_of(std::string(256 * 1024, '[')), "error");
  EXPECT_EQ(fields_of(R"({"x":)" + std::string(256 * 1024, '[')), "error");
}

TEST(ReadJsonFields, GivesTheVisitorsErrorAndStops) {
  int visits = 0;
  const auto read =
      read_json_fields(R"({"a":1,"b":2})", [&visits](auto, const auto&) -> Result<void> {
        ++visits;
        return fail(ErrorCode::kMeshKeyInvalid);
      });
  EXPECT_EQ(read.error().code, ErrorCode::kMeshKeyInvalid);
  EXPECT_EQ(visits, 1);
}

}  // namespace
}  // namespace detour::derp
