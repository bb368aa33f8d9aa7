#include "config/go_flags.h"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <string>
#include <vector>

namespace detour::config {
namespace {

using Args = std::vector<std::string>;
using Values = std::map<std::string, std::string, std::less<>>;

constexpr std::array kFlags = std::to_array<GoFlag>({
    {"a", GoFlagType::kString},
    {"hostname", GoFlagType::kString},
    {"stun", GoFlagType::kBool},
    {"http-port", GoFlagType::kInt},
    {"limit", GoFlagType::kFloat},
    {"timeout", GoFlagType::kDuration},
});

TEST(ParseGoFlags, ReadsFlagsAsGoDoes) {
  struct Case {
    Args args;
    Values set;
    Args rest;
  };
  const Case kCases[] = {
      {{}, {}, {}},
      {{"-a", "x"}, {{"a", "x"}}, {}},
      {{"--a", "x"}, {{"a", "x"}}, {}},
      {{"-a=x"}, {{"a", "x"}}, {}},
      {{"--a=x=y"}, {{"a", "x=y"}}, {}},
      {{"-a="}, {{"a", ""}}, {}},
      {{"-a", "-stun"}, {{"a", "-stun"}}, {}},  // The next argument is the value, whatever it is.
      {{"-a", "1", "-a", "2"}, {{"a", "2"}}, {}},
      {{"-stun"}, {{"stun", "true"}}, {}},
      {{"-stun=f"}, {{"stun", "f"}}, {}},
      {{"-stun", "false", "-a", "x"}, {{"stun", "true"}}, {"false", "-a", "x"}},
      {{"-http-port", "-1"}, {{"http-port", "-1"}}, {}},
      {{"-limit", "+Inf"}, {{"limit", "+Inf"}}, {}},
      {{"-timeout=1h"}, {{"timeout", "1h"}}, {}},
      {{"--", "-a", "x"}, {}, {"-a", "x"}},
      {{"-", "-a", "x"}, {}, {"-", "-a", "x"}},
      {{"", "-a", "x"}, {}, {"", "-a", "x"}},
      {{"serve", "-nope"}, {}, {"serve", "-nope"}},
  };
  for (const auto& [args, set, rest] : kCases) {
    SCOPED_TRACE(testing::PrintToString(args));
    const auto values = parse_go_flags(args, kFlags);
    ASSERT_TRUE(values.has_value()) << values.error().message;
    EXPECT_EQ(values->set, set);
    EXPECT_EQ(values->rest, rest);
  }
}

TEST(ParseGoFlags, WordsErrorsAsGoDoesAndAddsAHint) {
  struct Case {
    Args args;
    std::string message;
    std::string hint;
  };
  const Case kCases[] = {
      {{"-hostnam", "x"}, "flag provided but not defined: -hostnam", "did you mean -hostname?"},
      {{"-q=1"}, "flag provided but not defined: -q", ""},
      {{"---a"}, "bad flag syntax: ---a", ""},
      {{"-=x"}, "bad flag syntax: -=x", ""},
      {{"--=x"}, "bad flag syntax: --=x", ""},
      {{"-a"}, "flag needs an argument: -a", ""},
      {{"-http-port", "x"},
       "invalid value \"x\" for flag -http-port: parse error",
       "-http-port takes a whole number"},
      {{"-http-port", "99999999999999999999"},
       "invalid value \"99999999999999999999\" for flag -http-port: value out of range",
       "-http-port takes a whole number"},
      {{"-stun=maybe"},
       "invalid boolean value \"maybe\" for -stun: parse error",
       "-stun takes true or false"},
      {{"-limit", "x"},
       "invalid value \"x\" for flag -limit: parse error",
       "-limit takes a number"},
      {{"-timeout", "5"},
       "invalid value \"5\" for flag -timeout: parse error",
       "-timeout takes a duration with its unit, like 15s, 500ms or 1h30m"},
      {{"-nope", "-h"}, "flag provided but not defined: -nope", ""},
  };
  for (const auto& [args, message, hint] : kCases) {
    SCOPED_TRACE(testing::PrintToString(args));
    const auto values = parse_go_flags(args, kFlags);
    ASSERT_FALSE(values.has_value());
    EXPECT_FALSE(values.error().help);
    EXPECT_EQ(values.error().message, message);
    EXPECT_EQ(values.error().hint, hint);
  }
}

TEST(ParseGoFlags, TreatsHelpAsHelpWhereItStands) {
  for (const Args& args : {Args{"-h"}, Args{"-help"}, Args{"--help"}, Args{"-h=false"},
                           Args{"-a", "x", "-h", "-nope"}}) {
    const auto values = parse_go_flags(args, kFlags);
    ASSERT_FALSE(values.has_value());
    EXPECT_TRUE(values.error().help);
  }
}

}  // namespace
}  // namespace detour::config
