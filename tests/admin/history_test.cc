#include "admin/history.h"

#include <gtest/gtest.h>

namespace detour::admin {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr TimePoint kStart{seconds(1000)};

Sample sample(std::uint64_t number) {
  Sample made;
  made.at = kStart + number * History::kPeriod;
  made.clients = number;
  return made;
}

TEST(Sample, SumsWhatASnapshotTells) {
  metrics::Snapshot snapshot;
  snapshot.current_connections = 7;
  snapshot.received[0] = {.packets = 1, .bytes = 10};
  snapshot.received[1] = {.packets = 2, .bytes = 20};
  snapshot.sent[1] = {.packets = 3, .bytes = 30};
  snapshot.dropped[0][0].packets = 4;
  snapshot.dropped[0][1].packets = 5;
  snapshot.dropped[6][1].packets = 6;
  snapshot.stun_success = 8;
  snapshot.process.cpu_seconds = 1.5;
  const auto taken = Sample::of(snapshot, kStart);
  EXPECT_EQ(taken.at, kStart);
  EXPECT_EQ(taken.clients, 7U);
  EXPECT_EQ(taken.received.packets, 3U);
  EXPECT_EQ(taken.received.bytes, 30U);
  EXPECT_EQ(taken.sent.bytes, 30U);
  EXPECT_EQ(taken.dropped[0], 9U);
  EXPECT_EQ(taken.dropped_in_all(), 15U);
  EXPECT_EQ(taken.stun_answers, 8U);
  EXPECT_EQ(taken.cpu_seconds, 1.5);
}

TEST(Rates, AreWhatLiesBetweenTwoSamples) {
  Sample before;
  before.at = kStart;
  before.received = {.packets = 10, .bytes = 1000};
  Sample after = before;
  after.at = kStart + milliseconds(2500);
  after.received = {.packets = 15, .bytes = 6000};
  after.sent = {.packets = 5, .bytes = 50};
  after.dropped[3] = 10;
  after.stun_answers = 1;
  after.cpu_seconds = 5;
  const auto rates = Rates::between(before, after);
  EXPECT_EQ(rates.received_packets, 2);
  EXPECT_EQ(rates.received_bytes, 2000);
  EXPECT_EQ(rates.sent_packets, 2);
  EXPECT_EQ(rates.sent_bytes, 20);
  EXPECT_EQ(rates.dropped, 4);
  EXPECT_EQ(rates.dropped_by_reason[3], 4);
  EXPECT_EQ(rates.dropped_by_reason[2], 0);
  EXPECT_EQ(rates.stun_answers, 0.4);
  EXPECT_EQ(rates.cpu, 2);
  // Neither without time nor backwards.
  EXPECT_EQ(Rates::between(after, after).received_bytes, 0);
  EXPECT_EQ(Rates::between(after, before).received_bytes, 0);
  before.at = after.at + seconds(1);
  EXPECT_EQ(Rates::between(after, before).received_bytes, 0);
}

TEST(History, KeepsTheLastHour) {
  History history;
  EXPECT_EQ(history.before(kStart, {}), nullptr);
  for (std::uint64_t i = 0; i < History::kSamplesMax; ++i) history.add(sample(i));
  EXPECT_EQ(history.size(), History::kSamplesMax);
  EXPECT_EQ(history.at(0).clients, 0U) << "the bound itself";
  history.add(sample(History::kSamplesMax));
  EXPECT_EQ(history.size(), History::kSamplesMax) << "and one beyond it";
  EXPECT_EQ(history.next(), History::kSamplesMax + 1);
  EXPECT_EQ(history.at(1).clients, 1U);
  EXPECT_EQ(history.at(History::kSamplesMax).clients, History::kSamplesMax);
  EXPECT_EQ(history.at(history.next() - 1).at - history.at(1).at, std::chrono::hours(1));
  for (std::uint64_t i = 0; i < 5000; ++i) history.add(sample(history.next()));
  for (std::uint64_t i = history.next() - history.size(); i < history.next(); ++i)
    ASSERT_EQ(history.at(i).clients, i);
}

TEST(History, FindsTheSampleOfAnAge) {
  History history;
  for (std::uint64_t i = 0; i < 3; ++i) history.add(sample(i));
  const TimePoint now = kStart + seconds(11);
  EXPECT_EQ(history.before(now, {})->clients, 2U);
  EXPECT_EQ(history.before(now, seconds(1))->clients, 2U);
  EXPECT_EQ(history.before(now, milliseconds(1001))->clients, 1U);
  EXPECT_EQ(history.before(now, seconds(11))->clients, 0U);
  EXPECT_EQ(history.before(now, seconds(60))->clients, 0U) << "the oldest";
}

TEST(HistoryDeathTest, HasNoSampleThatIsNotKept) {
  History history;
  EXPECT_DEATH((void)history.at(0), "");
  for (std::uint64_t i = 0; i <= History::kSamplesMax; ++i) history.add(sample(i));
  EXPECT_DEATH((void)history.at(0), "");
  EXPECT_DEATH((void)history.at(history.next()), "");
}

}  // namespace
}  // namespace detour::admin
