#include "config/suggest.h"

#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace detour::config {
namespace {

TEST(Suggest, FindsTheNearestWordWithinAThirdOfItsLength) {
  constexpr std::array<std::string_view, 6> kKnown = {"hostname",  "http-port", "stun",
                                                      "stun-port", "cert-dir",  "home"};
  struct Case {
    std::string_view word;
    std::optional<std::string_view> meant;
  };
  constexpr Case kCases[] = {
      {"hostnam", "hostname"},  {"hostnmae", "hostname"}, {"host-name", "hostname"},
      {"HOSTNAME", "hostname"}, {"hostxxme", "hostname"}, {"hosxxxme", std::nullopt},
      {"certdir", "cert-dir"},  {"stn", "stun"},          {"stun_port", "stun-port"},
      {"x", std::nullopt},      {"", std::nullopt},       {"verify-clients", std::nullopt},
  };
  for (const auto& [word, meant] : kCases) EXPECT_EQ(suggest(word, kKnown), meant) << word;
}

TEST(Suggest, PassesOverWordsThatNobodyTypes) {
  constexpr std::array<std::string_view, 1> kKnown = {"hostname"};
  EXPECT_EQ(suggest(std::string(100'000, 'h'), kKnown), std::nullopt);
}

}  // namespace
}  // namespace detour::config
