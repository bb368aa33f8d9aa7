#include "doctor/dns.h"

#include <gtest/gtest.h>

namespace detour::doctor {
namespace {

TEST(KindOf, KnowsTheEdgesOfEachRange) {
  struct Case {
    std::string_view ip;
    AddressKind kind;
  };
  using enum AddressKind;
  constexpr Case kCases[] = {
      {"198.17.255.255", kPublic},
      {"198.18.0.0", kFake},
      {"198.19.255.255", kFake},
      {"198.20.0.0", kPublic},
      {"9.255.255.255", kPublic},
      {"10.0.0.0", kPrivate},
      {"172.15.255.255", kPublic},
      {"172.16.0.0", kPrivate},
      {"172.31.255.255", kPrivate},
      {"172.32.0.0", kPublic},
      {"192.168.0.1", kPrivate},
      {"192.169.0.1", kPublic},
      {"169.254.1.1", kPrivate},
      {"100.63.255.255", kPublic},
      {"100.64.0.0", kPrivate},
      {"100.127.255.255", kPrivate},
      {"100.128.0.0", kPublic},
      {"127.0.0.1", kLoopback},
      {"0.0.0.0", kUnusable},
      {"223.255.255.255", kPublic},
      {"224.0.0.1", kUnusable},
      {"::1", kLoopback},
      {"::", kUnusable},
      {"fe80::1", kPrivate},
      {"fd00::1", kPrivate},
      {"2001:db8::1", kPublic},
      {"ff02::1", kUnusable},
      {"::ffff:198.18.0.1", kFake},
      {"no address", kUnusable},
  };
  for (const auto& [ip, kind] : kCases) EXPECT_EQ(kind_of(ip), kind) << ip;
}

}  // namespace
}  // namespace detour::doctor
