#include "server/drop_log.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/frames.h"
#include "support/relay_fakes.h"
#include "support/test_relay.h"

namespace detour::server {
namespace {

using metrics::DropReason;
using metrics::PacketKind;
using test::numbered_key;

relay::Drop drop_to(std::uint32_t destination) {
  return {.reason = DropReason::kQueueHead,
          .kind = PacketKind::kOther,
          .source = numbered_key(1),
          .destination = numbered_key(destination),
          .packet_size = 1400};
}

TEST(DropLog, WritesOfTheKeysThatAreWatchedAndOfNoOthers) {
  test::CollectedLog log;
  DropLog drops(log);
  EXPECT_FALSE(drops.wants_drops());
  drops.on_drop(drop_to(2));
  const std::vector<std::string> two = {numbered_key(2).typed(), "no key"};
  drops.watch(two);
  EXPECT_TRUE(drops.wants_drops());
  drops.on_drop(drop_to(3));
  EXPECT_TRUE(log.lines().empty());
  drops.on_drop(drop_to(2));
  ASSERT_EQ(log.lines().size(), 1U);
  EXPECT_NE(log.lines()[0].find("drop: queue_head, 1400 bytes of other, " +
                                numbered_key(1).typed() + " -> " + numbered_key(2).typed()),
            std::string::npos)
      << log.lines()[0];
  drops.watch({});
  EXPECT_FALSE(drops.wants_drops());
  drops.on_drop(drop_to(2));
  EXPECT_EQ(log.lines().size(), 1U);
}

TEST(DropLog, HoldsAFloodBackForEachKeyAndReasonByItself) {
  test::CollectedLog log;
  DropLog drops(log);
  const std::vector<std::string> both = {numbered_key(2).typed(), numbered_key(3).typed()};
  drops.watch(both);
  for (int i = 0; i < 10'000; ++i) drops.on_drop(drop_to(2));
  const std::size_t lines = log.lines().size();
  EXPECT_GE(lines, 20U);
  EXPECT_LT(lines, 100U) << "one more for each second that this took";
  drops.on_drop(drop_to(3));
  EXPECT_EQ(log.lines().size(), lines + 1);
  relay::Drop other_reason = drop_to(2);
  other_reason.reason = DropReason::kGoneDisconnected;
  drops.on_drop(other_reason);
  EXPECT_EQ(log.lines().size(), lines + 2);
}

}  // namespace
}  // namespace detour::server
