#include "admin/bootstrap_dns.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "admin/debug_access.h"

namespace detour::admin {
namespace {

constexpr std::string_view kPublished =
    "{\n\t\"a.example\": [\n\t\t\"192.0.2.1\",\n\t\t\"2001:db8::1\"\n\t],\n\t\"none.example\": "
    "[]\n}";

BootstrapCache cache() {
  BootstrapCache cache;
  cache.published = {{"a.example", {{"192.0.2.1", "2001:db8::1"}, 1.0}},
                     {"none.example", {{}, 1.0}}};
  cache.published_json = format_bootstrap_json(cache.published);
  cache.unpublished = {{"hidden.example", {{"192.0.2.2"}, 1.0}},
                       {"half.example", {{"192.0.2.3"}, 0.5}},
                       {"off.example", {{"192.0.2.4"}, 0.0}},
                       {"empty.example", {{}, 1.0}}};
  return cache;
}

BootstrapAnswer ask(std::string_view query, std::string_view ip = "192.0.2.9", double coin = 0) {
  return answer_bootstrap(cache(), query, ip, coin);
}

TEST(BootstrapDns, GivesAllPublishedNamesWithoutAQuery) {
  const auto answer = ask("");
  EXPECT_EQ(answer.body, kPublished);
  EXPECT_FALSE(answer.published_hit || answer.published_miss || answer.unpublished_hit ||
               answer.unpublished_miss || answer.unpublished_percent_miss);
  EXPECT_EQ(answer_bootstrap({}, "", "192.0.2.9", 0).body, "") << "before the first look-up";
  EXPECT_EQ(format_bootstrap_json({}), "null");
}

TEST(BootstrapDns, CountsWhatWasAskedFor) {
  EXPECT_TRUE(ask("a.example").published_hit);
  EXPECT_EQ(ask("a.example").body, kPublished);
  EXPECT_TRUE(ask("none.example").published_miss);
  EXPECT_TRUE(ask("other.example").unpublished_miss);
  EXPECT_EQ(ask("other.example").body, kPublished);
  EXPECT_TRUE(ask("empty.example").unpublished_miss);
}

TEST(BootstrapDns, GivesAnUnpublishedNameAloneAndToItsShareOnly) {
  const auto hidden = ask("hidden.example");
  EXPECT_TRUE(hidden.unpublished_hit);
  EXPECT_FALSE(hidden.unpublished_percent_miss || hidden.unpublished_miss);
  EXPECT_EQ(hidden.body, "{\n\t\"hidden.example\": [\n\t\t\"192.0.2.2\"\n\t]\n}");

  const auto off = ask("off.example");
  EXPECT_TRUE(off.unpublished_hit && off.unpublished_percent_miss && off.unpublished_miss);
  EXPECT_EQ(off.body, kPublished);

  // 1.2.3.5 draws 0.017, 1.2.3.6 0.858.
  EXPECT_FALSE(ask("half.example", "1.2.3.5").unpublished_percent_miss);
  EXPECT_TRUE(ask("half.example", "1.2.3.6").unpublished_percent_miss);
  EXPECT_TRUE(ask("half.example", "nonsense").unpublished_percent_miss);
  EXPECT_FALSE(ask("half.example", "127.0.0.1", 0.49).unpublished_percent_miss);
  EXPECT_TRUE(ask("half.example", "127.0.0.1", 0.5).unpublished_percent_miss);
  EXPECT_EQ(ask("half.example", "1.2.3.6").body.find("192.0.2.3"), std::string::npos);
}

TEST(AddressShare, IsThatOfDerper) {
  struct Case {
    std::string_view ip;
    double share;
  };
  constexpr Case kCases[] = {{"1.2.3.4", 0.068658}, {"1.2.3.5", 0.017460}, {"1.2.3.6", 0.858255},
                             {"1.2.3.7", 0.406545}, {"1.2.3.8", 0.846759}, {"1.2.3.9", 0.011211},
                             {"1.2.3.10", 0.294129}};
  for (const auto& [ip, share] : kCases)
    EXPECT_NEAR(address_share(*parse_ip(ip)), share, 1e-6) << ip;
}

}  // namespace
}  // namespace detour::admin
