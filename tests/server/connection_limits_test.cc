#include "server/connection_limits.h"

#include <gtest/gtest.h>

#include <limits>
#include <optional>
#include <string_view>
#include <thread>
#include <vector>

namespace detour::server {
namespace {

using Refusal = ConnectionLimits::Refusal;
using Slot = ConnectionLimits::Slot;

net::SocketAddress address(std::string_view text) {
  return *net::SocketAddress::parse(text, 1234);
}

config::Config config_with(std::uint32_t total, std::uint32_t per_address) {
  config::Config config;
  config.connections_max = total;
  config.connections_per_address_max = per_address;
  return config;
}

TEST(ConnectionLimits, TakesAsManyAsAllowedInTotalAndNotOneMore) {
  ConnectionLimits limits(config_with(3, 0));
  std::vector<Slot> slots;
  for (int i = 0; i < 3; ++i) slots.push_back(*limits.take(address("192.0.2.1")));
  const auto refused = limits.take(address("192.0.2.2"));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error(), Refusal::kTotal);
  EXPECT_EQ(limits.connections(), 3U);
  slots.pop_back();
  EXPECT_TRUE(limits.take(address("192.0.2.2")).has_value());
}

TEST(ConnectionLimits, TakesAsManyAsAllowedFromOneAddressAndNotOneMore) {
  ConnectionLimits limits(config_with(0, 2));
  std::vector<Slot> slots;
  for (int i = 0; i < 2; ++i) slots.push_back(*limits.take(address("192.0.2.1")));
  const auto refused = limits.take(address("192.0.2.1"));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error(), Refusal::kAddress);
  EXPECT_EQ(limits.connections(), 2U);
  EXPECT_FALSE(limits.take(address("::ffff:192.0.2.1")).has_value()) << "the same in IPv6 clothes";
  EXPECT_TRUE(limits.take(address("192.0.2.2")).has_value());
  slots.clear();
  EXPECT_TRUE(limits.take(address("192.0.2.1")).has_value());
  EXPECT_EQ(limits.connections(), 0U);
}

TEST(ConnectionLimits, CountsAnIpv6NetworkOf64BitsAsOneAddress) {
  ConnectionLimits limits(config_with(0, 1));
  const auto first = limits.take(address("2001:db8:0:1::1"));
  ASSERT_TRUE(first.has_value());
  EXPECT_FALSE(limits.take(address("2001:db8:0:1:ffff:ffff:ffff:ffff")).has_value());
  EXPECT_TRUE(limits.take(address("2001:db8:0:2::1")).has_value());
  EXPECT_TRUE(limits.take(address("::1")).has_value());
  const auto ipv4 = limits.take(address("0.0.0.0"));
  EXPECT_TRUE(ipv4.has_value());
  EXPECT_TRUE(limits.take(address("::1")).has_value()) << "IPv4 is not a network of IPv6";
  EXPECT_EQ(ConnectionLimits::describe(address("2001:db8::7")), "the /64 network of 2001:db8::7");
  EXPECT_EQ(ConnectionLimits::describe(address("192.0.2.1")), "192.0.2.1");
}

TEST(ConnectionLimits, AProxyIsNotCountedButTheClientsBehindItAre) {
  ConnectionLimits limits(config_with(0, 1));
  auto first = limits.take(address("192.0.2.1"), /*counts_address=*/false);
  auto second = limits.take(address("192.0.2.1"), /*counts_address=*/false);
  ASSERT_TRUE(first.has_value());
  ASSERT_TRUE(second.has_value());
  EXPECT_TRUE(first->move_to(address("198.51.100.1")));
  EXPECT_FALSE(second->move_to(address("198.51.100.1")));
  EXPECT_TRUE(second->move_to(address("198.51.100.2")));
  first->release();
  EXPECT_TRUE(second->move_to(address("198.51.100.1"))) << "the old place is given back";
  EXPECT_TRUE(limits.take(address("198.51.100.2")).has_value());
  EXPECT_EQ(limits.connections(), 1U);
}

TEST(ConnectionLimits, ALimitThatIsSetLaterKnowsWhoIsThere) {
  ConnectionLimits limits(config_with(0, 0));
  const auto first = limits.take(address("192.0.2.1"));
  limits.set(config_with(0, 1));
  EXPECT_FALSE(limits.take(address("192.0.2.1")).has_value());
  limits.set(config_with(0, 2));
  EXPECT_TRUE(limits.take(address("192.0.2.1")).has_value());
}

TEST(ConnectionLimits, AcceptsUpToTheBurstAndThenAtTheRate) {
  config::Config config;
  config.accept_connections_per_second = 10;
  config.accept_connections_burst = 3;
  ConnectionLimits limits(config);
  const TimePoint start{std::chrono::seconds(50)};
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(limits.admit_accept(start));
  EXPECT_FALSE(limits.admit_accept(start));
  EXPECT_FALSE(limits.admit_accept(start + std::chrono::milliseconds(99)));
  EXPECT_TRUE(limits.admit_accept(start + std::chrono::milliseconds(101)));
  EXPECT_FALSE(limits.admit_accept(start + std::chrono::milliseconds(101)));
}

TEST(ConnectionLimits, WithoutALimitAnyRateIsAccepted) {
  config::Config config;
  config.accept_connections_burst = 0;
  ConnectionLimits limits(config);
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(limits.admit_accept(TimePoint{}));
}

TEST(ConnectionLimits, NeverLetsMoreInWhenManyThreadsAsk) {
  ConnectionLimits limits(config_with(50, 40));
  std::atomic<int> let_in{0};
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 2000; ++round) {
        const auto slot = limits.take(address("192.0.2.1"));
        if (!slot) continue;
        EXPECT_LE(++let_in, 40);
        --let_in;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(limits.connections(), 0U);
}

}  // namespace
}  // namespace detour::server
