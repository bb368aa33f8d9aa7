#include "config/go_values.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>

namespace detour::config {
namespace {

using std::chrono::nanoseconds;

TEST(ParseGoBool, TakesGosSpellingsAlone) {
  for (const auto text : {"1", "t", "T", "true", "TRUE", "True"})
    EXPECT_EQ(parse_go_bool(text), true);
  for (const auto text : {"0", "f", "F", "false", "FALSE", "False"})
    EXPECT_EQ(parse_go_bool(text), false);
  for (const auto text : {"", "yes", "on", "tRUE", " true", "2"})
    EXPECT_EQ(parse_go_bool(text), std::nullopt) << text;
}

TEST(ParseGoInt, TakesGosLiterals) {
  struct Case {
    std::string_view text;
    std::int64_t value;
  };
  constexpr Case kCases[] = {
      {"0", 0},
      {"-0", 0},
      {"443", 443},
      {"+443", 443},
      {"-1", -1},
      {"0x50", 80},
      {"0X5F", 95},
      {"0b101", 5},
      {"0o17", 15},
      {"017", 15},
      {"00", 0},
      {"8_0", 80},
      {"0x_50", 80},
      {"0_17", 15},
      {"-0x10", -16},
      {"9223372036854775807", std::numeric_limits<std::int64_t>::max()},
      {"-9223372036854775808", std::numeric_limits<std::int64_t>::min()},
  };
  for (const auto& [text, value] : kCases) EXPECT_EQ(parse_go_int(text), value) << text;
}

TEST(ParseGoInt, TellsBadSyntaxFromBadRange) {
  for (const auto text : {"", "-", "+", "x", "8.0", "08", "0x", "0b2", "0o8", "1_", "_1", "1__2",
                          "--5", "+-5", " 5", "5 ", "3478x", "0x5G", "1e3"})
    EXPECT_EQ(parse_go_int(text).error(), GoValueError::kSyntax) << text;
  for (const auto text : {"9223372036854775808", "-9223372036854775809", "99999999999999999999",
                          "0xffffffffffffffff"})
    EXPECT_EQ(parse_go_int(text).error(), GoValueError::kRange) << text;
}

TEST(ParseGoFloat, TakesNumbersAndInfinity) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  struct Case {
    std::string_view text;
    double value;
  };
  constexpr Case kCases[] = {
      {"0", 0},
      {"1", 1},
      {"-1.5", -1.5},
      {"+2", 2},
      {".5", 0.5},
      {"1.", 1},
      {"1e3", 1000},
      {"1E-1", 0.1},
      {"0x1p4", 16},
      {"Inf", kInfinity},
      {"+Inf", kInfinity},
      {"-inf", -kInfinity},
      {"1_0.5_0", 10.5},
      {"0x_1_fp0", 31},
      {"1e-999", 0},

      {"Infinity", kInfinity},
  };
  for (const auto& [text, value] : kCases) EXPECT_EQ(parse_go_float(text), value) << text;
  EXPECT_TRUE(std::isnan(parse_go_float("NaN").value()));
}

TEST(ParseGoFloat, RefusesTheRest) {
  for (const auto text : {"", "-", "+", "abc", "1x", "--1", "+-1", "0x10", "1e", " 1", "1_", "_1",
                          "1_.5", "1__2", "-NaN", "nan(1)", "0x-1p3"})
    EXPECT_EQ(parse_go_float(text).error(), GoValueError::kSyntax) << text;
  EXPECT_EQ(parse_go_float("1e999").error(), GoValueError::kRange);
}

TEST(ParseGoDuration, TakesGosDurations) {
  using std::chrono::hours;
  using std::chrono::microseconds;
  using std::chrono::milliseconds;
  using std::chrono::minutes;
  using std::chrono::seconds;
  struct Case {
    std::string_view text;
    nanoseconds value;
  };
  constexpr Case kCases[] = {
      {"0", nanoseconds(0)},
      {"-0", nanoseconds(0)},
      {"0s", nanoseconds(0)},
      {"15s", seconds(15)},
      {"+15s", seconds(15)},
      {"-15s", -seconds(15)},
      {"10m", minutes(10)},
      {"1h30m", minutes(90)},
      {"1h30m0.5s", minutes(90) + milliseconds(500)},
      {"1.5s", milliseconds(1500)},
      {".5s", milliseconds(500)},
      {"1.s", seconds(1)},
      {"300ms", milliseconds(300)},
      {"7us", microseconds(7)},
      {"7\u00b5s", microseconds(7)},
      {"7\u03bcs", microseconds(7)},
      {"7ns", nanoseconds(7)},
      {"0.1ns", nanoseconds(0)},
      {"1s1h", hours(1) + seconds(1)},
      {"0.100000000000000000000h", minutes(6)},
      {"9223372036854775807ns", nanoseconds::max()},
      {"-9223372036854775808ns", nanoseconds::min()},
  };
  for (const auto& [text, value] : kCases) EXPECT_EQ(parse_go_duration(text), value) << text;
}

TEST(ParseGoDuration, RefusesTheRest) {
  for (const auto text :
       {"", "-", "+", "5", "1.5", ".s", "s", "2sec", "1d", "1h 30m", " 1s", "1s ", "--1s", "1..5s",
        "9223372036854775808ns", "-9223372036854775809ns", "2562048h", "99999999999999999999s"})
    EXPECT_FALSE(parse_go_duration(text).has_value()) << text;
}

TEST(ToGoText, WritesDurationsAsGoDoesAndReadsThemBack) {
  struct Case {
    nanoseconds value;
    std::string_view text;
  };
  constexpr Case kCases[] = {
      {nanoseconds(0), "0s"},
      {nanoseconds(1), "1ns"},
      {nanoseconds(1100), "1.1\u00b5s"},
      {std::chrono::milliseconds(2200), "2.2s"},
      {std::chrono::microseconds(1500), "1.5ms"},
      {std::chrono::minutes(10), "10m0s"},
      {std::chrono::minutes(90), "1h30m0s"},
      {-std::chrono::seconds(61), "-1m1s"},
      {nanoseconds::max(), "2562047h47m16.854775807s"},
      {nanoseconds::min(), "-2562047h47m16.854775808s"},
  };
  for (const auto& [value, text] : kCases) {
    EXPECT_EQ(to_go_text(value), text);
    EXPECT_EQ(parse_go_duration(text), value) << text;
  }
}

}  // namespace
}  // namespace detour::config
