#include "server/bootstrap_dns.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/test_relay.h"

namespace detour::server {
namespace {

using Texts = std::optional<std::vector<std::string>>;

Texts addresses(const std::string& name, std::string& reason) {
  if (name == "unknown.example") {
    reason = "no such name";
    return std::nullopt;
  }
  return std::vector<std::string>{"192.0.2.1"};
}

Texts texts(const std::string& name, std::string& reason) {
  if (name == "none.example") {
    reason = "no such record";
    return std::nullopt;
  }
  if (name == "limit.example") return std::vector<std::string>{"100"};
  if (name == "beyond.example") return std::vector<std::string>{"101", "-1", "x", "5%", ""};
  return std::vector<std::string>{"nonsense", "25"};
}

constexpr BootstrapDns::Resolver kFake{.addresses = &addresses, .texts = &texts};

TEST(ResolveBootstrapList, TakesTheShareFromTheRecord) {
  std::vector<std::string> failures;
  const auto names = resolve_bootstrap_list(
      {"plain.example", "a.example/quarter.example", "b.example/limit.example",
       "c.example/beyond.example", "d.example/none.example", "unknown.example"},
      kFake, std::chrono::minutes(1), failures);
  ASSERT_EQ(names.size(), 5U);
  EXPECT_EQ(names.at("plain.example").share, 1.0);
  EXPECT_EQ(names.at("a.example").share, 0.25);
  EXPECT_EQ(names.at("b.example").share, 1.0);
  EXPECT_EQ(names.at("c.example").share, 0.0);
  EXPECT_EQ(names.at("d.example").share, 0.0);
  EXPECT_EQ(failures, (std::vector<std::string>{"TXT none.example: no such record",
                                                "unknown.example: no such name"}));
}

TEST(ResolveBootstrapList, StopsWhenItsTimeIsOver) {
  std::vector<std::string> failures;
  EXPECT_TRUE(resolve_bootstrap_list({"plain.example"}, kFake, Duration::zero(), failures).empty());
  EXPECT_EQ(failures.size(), 1U);
}

TEST(BootstrapDns, AnswersWithWhatWasLookedUp) {
  test::CollectedLog log;
  BootstrapDns dns({"plain.example", "unknown.example"}, {"a.example"}, log, kFake);
  EXPECT_TRUE(
      test::wait_until([&] { return dns.answer("", "192.0.2.9").contains("plain.example"); }));
  EXPECT_TRUE(test::wait_until(
      [&] { return dns.answer("a.example", "192.0.2.9").starts_with("{\n\t\"a.example\""); }));
  EXPECT_TRUE(test::wait_until([&] { return !log.lines().empty(); }));
  dns.stop();
  metrics::Snapshot snapshot;
  dns.fill(snapshot);
  EXPECT_GE(snapshot.bootstrap_dns_requests, 2U);
  EXPECT_EQ(snapshot.bootstrap_dns_queried_domains, 1U);
}

TEST(BootstrapDns, RemembersABoundedNumberOfNames) {
  test::CollectedLog log;
  BootstrapDns dns({}, {}, log, kFake);
  const auto remembered = [&] {
    metrics::Snapshot snapshot;
    dns.fill(snapshot);
    return snapshot.bootstrap_dns_queried_domains;
  };
  for (std::size_t i = 0; i < BootstrapDns::kQueriedNamesMax; ++i)
    EXPECT_EQ(dns.answer("n" + std::to_string(i), "192.0.2.9"), "");
  EXPECT_EQ(remembered(), BootstrapDns::kQueriedNamesMax);
  EXPECT_EQ(dns.answer(std::string(254, 'x'), "192.0.2.9"), "") << "no name is that long";
  EXPECT_EQ(remembered(), BootstrapDns::kQueriedNamesMax);
  EXPECT_EQ(dns.answer("one more", "192.0.2.9"), "");
  EXPECT_EQ(remembered(), 0U);
}

}  // namespace
}  // namespace detour::server
