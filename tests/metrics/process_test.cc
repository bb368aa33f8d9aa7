#include "metrics/process.h"

#include <gtest/gtest.h>

#include <string>

namespace detour::metrics {
namespace {

// In the form of proc(5); the name holds what would mislead a careless reader.
constexpr std::string_view kSelfStat =
    "4242 (a) b (c) S 1 4242 4242 0 -1 4194560 9000 0 10 0 "
    "150 50 0 0 20 0 8 0 223100 1762172928 4641 18446744073709551615 1 1 0 0 0 0 0 0 0\n";
constexpr std::string_view kSystemStat =
    "cpu  1 2 3\nintr 5\nctxt 6\nbtime 1795251257\nprocesses 7\n";

constexpr std::string_view kNetstat =
    "TcpExt: SyncookiesSent InOctets\nTcpExt: 7 8\n"
    "IpExt: InNoRoutes InOctets OutOctets\nIpExt: 0 98765432101 42\n";

ProcessTexts texts() {
  return {.self_stat = kSelfStat,
          .system_stat = kSystemStat,
          .netstat = kNetstat,
          .open_fds = 14,
          .max_fds = 20000,
          .virtual_max_bytes = 1U << 30U,
          .ticks_per_second = 100,
          .page_bytes = 4096};
}

TEST(ParseProcess, ReadsWhatProcTells) {
  const auto usage = parse_process(texts());
  ASSERT_TRUE(usage.has_value());
  EXPECT_DOUBLE_EQ(usage->cpu_seconds, 2.0);
  EXPECT_EQ(usage->resident_bytes, 4641U * 4096U);
  EXPECT_EQ(usage->virtual_bytes, 1762172928U);
  EXPECT_EQ(usage->open_fds, 14U);
  EXPECT_EQ(usage->max_fds, 20000U);
  EXPECT_EQ(usage->virtual_max_bytes, 1U << 30U);
  EXPECT_EQ(usage->network_received_bytes, 98765432101U);
  EXPECT_EQ(usage->network_sent_bytes, 42U);
  EXPECT_DOUBLE_EQ(usage->start_unix_seconds, 1795253488.0);
  EXPECT_EQ(usage->boot_unix_seconds, 1795251257);
}

TEST(ParseProcess, TakesNoNetworkTrafficAsNone) {
  for (const std::string_view netstat :
       {std::string_view(), std::string_view("IpExt: InOctets\n"),
        std::string_view("IpExt: InOctets OutOctets\nIpExt: 5"),
        std::string_view("IpExt: InOctets OutOctets\nIpExt: x y\n")}) {
    auto without = texts();
    without.netstat = netstat;
    const auto usage = parse_process(without);
    ASSERT_TRUE(usage.has_value());
    EXPECT_EQ(usage->network_sent_bytes, 0U) << netstat;
  }
}

TEST(ParseProcess, GivesNothingForEveryTextThatEndsTooSoon) {
  const std::size_t resident_end = kSelfStat.find("4641") + 1;
  for (std::size_t size = 0; size < resident_end; ++size) {
    auto cut = texts();
    cut.self_stat = kSelfStat.substr(0, size);
    EXPECT_FALSE(parse_process(cut).has_value()) << size;
  }
  auto no_boot_time = texts();
  no_boot_time.system_stat = "cpu 1\n";
  EXPECT_FALSE(parse_process(no_boot_time).has_value());
}

}  // namespace
}  // namespace detour::metrics
