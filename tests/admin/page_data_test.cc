#include "admin/page_data.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <string>

#include "support/frames.h"

namespace detour::admin {
namespace {

using nlohmann::json;
using std::chrono::seconds;

constexpr TimePoint kStart{seconds(1000)};
/// 2026-01-02T03:04:05Z.
constexpr std::int64_t kStartUnix = 1'767'323'045;

class PageDataTest : public testing::Test {
 protected:
  PageDataTest() {
    status_.started_at = kStart;
    status_.started_wall = WallTime(seconds(kStartUnix));
    status_.listening = {{.what = "derp", .address = "[::]:443"}};
  }

  /// Adds samples until there were `count`: 5 bytes a second and more with each.
  void add_samples(std::uint64_t count) {
    while (history_.next() < count) {
      history_.add(sample(history_.next()));
      status_.now = history_.at(history_.next() - 1).at;
    }
  }

  static Sample sample(std::uint64_t number) {
    Sample made;
    made.at = kStart + number * History::kPeriod;
    made.clients = number;
    made.received = {.packets = number, .bytes = 25 * number};
    made.sent = {.packets = 2 * number, .bytes = 50 * number};
    made.dropped[3] = 10 * number;
    return made;
  }

  [[nodiscard]] json told(const PageProgress& progress = {}) const {
    const PageData data{.status = status_,
                        .monitoring = {.what = "monitoring", .address = "127.0.0.1:9090"},
                        .history = history_,
                        .now = sample(history_.next()),
                        .run = "this",
                        .doctor = visit_};
    return json::parse(format_page_json(data, progress));
  }

  RelayStatus status_;
  History history_;
  std::optional<DoctorVisit> visit_;
};

TEST_F(PageDataTest, HasTheRatesOfNowAndOfEachPeriod) {
  add_samples(3);
  const json all = told();
  EXPECT_EQ(all["run"], "this");
  EXPECT_EQ(all["perSecond"]["receivedBytes"], 5);
  EXPECT_EQ(all["perSecond"]["sentPackets"], 0.4);
  EXPECT_EQ(all["perSecond"]["dropped"], 2);
  EXPECT_EQ(all["droppedPerSecond"]["queue_head"], 2);
  EXPECT_EQ(all["droppedPerSecond"]["unknown_dest"], 0);
  EXPECT_EQ(all["listening"].size(), 2U);
  EXPECT_EQ(all["listening"][1]["address"], "127.0.0.1:9090");
  EXPECT_TRUE(all["doctor"].is_null());
  const json& history = all["history"];
  EXPECT_EQ(history["next"], 3);
  EXPECT_EQ(history["periodSeconds"], 5);
  EXPECT_EQ(history["columns"], json({"at", "clients", "receivedBytes", "sentBytes",
                                      "receivedPackets", "sentPackets", "dropped"}));
  EXPECT_EQ(history["rows"], json::array({json::array({kStartUnix + 5, 1, 5, 10, 0.2, 0.4, 2}),
                                          json::array({kStartUnix + 10, 2, 5, 10, 0.2, 0.4, 2})}));
}

TEST_F(PageDataTest, TellsOfTheHistoryWhatThePageHasNot) {
  add_samples(10);
  const auto rows = [this](const PageProgress& progress) {
    return told(progress)["history"]["rows"].size();
  };
  EXPECT_EQ(rows({}), 9U) << "the first sample has no rate";
  EXPECT_EQ(rows({.run = "this", .next = 1}), 9U);
  EXPECT_EQ(rows({.run = "this", .next = 9}), 1U);
  EXPECT_EQ(rows({.run = "this", .next = 10}), 0U);
  EXPECT_EQ(rows({.run = "this", .next = 11}), 9U) << "from another time";
  EXPECT_EQ(rows({.run = "this", .next = UINT64_MAX}), 9U);
  EXPECT_EQ(rows({.run = "that", .next = 9}), 9U) << "another relay's";
  add_samples(10 + History::kSamplesMax);
  EXPECT_EQ(rows({}), History::kSamplesMax - 1);
  EXPECT_EQ(rows({.run = "this", .next = 2}), History::kSamplesMax - 1);
}

TEST_F(PageDataTest, WorksBeforeThereIsAnything) {
  const json all = told();
  EXPECT_EQ(all["history"]["rows"].size(), 0U);
  EXPECT_EQ(all["perSecond"]["receivedBytes"], 0);
}

TEST_F(PageDataTest, IsBoundedHoweverManyClientsThereAre) {
  for (std::uint32_t i = 0; i < 10'000; ++i) {
    ClientStatus client;
    client.identity.id = i;
    client.identity.key = test::numbered_key(i);
    client.identity.app_name = std::string(32, 'a');
    client.name = std::string(100, 'n');
    client.received_per_second = i;
    client.sent_per_second = 1;
    status_.clients.push_back(client);
  }
  status_.pairs.resize(kPairsShownMax);
  add_samples(History::kSamplesMax);
  visit_ = DoctorVisit{.findings = {}, .at = status_.started_wall};
  const json all = told();
  ASSERT_EQ(all["clients"].size(), kPageClientsMax);
  EXPECT_EQ(all["clients"][0]["receivedPerSecond"], 9999) << "the busiest";
  EXPECT_EQ(all["totals"]["clients"], 10'000);
  EXPECT_EQ(all["pairs"].size(), kPagePairsMax);
  EXPECT_EQ(all["unlisted"]["clients"], 10'000 - kPageClientsMax);
  EXPECT_EQ(all["unlisted"]["sentPerSecond"], 10'000 - kPageClientsMax);
  std::uint64_t rest = 0;
  for (std::uint64_t i = 0; i < 10'000 - kPageClientsMax; ++i) rest += i;
  EXPECT_EQ(all["unlisted"]["receivedPerSecond"], rest);
  EXPECT_LT(all.dump().size(), 150'000U);
}

TEST_F(PageDataTest, TellsWhatTheDoctorFound) {
  visit_ = DoctorVisit{.findings = {.sections = {{.title = "here",
                                                  .findings = {{.state = "WARN",
                                                                .code = "D06",
                                                                .fault = "soon",
                                                                .check = "certificate",
                                                                .cause = "it ends",
                                                                .fix = "renew it"}}}},
                                    .left_out = 2},
                       .at = status_.started_wall};
  const json doctor = told()["doctor"];
  EXPECT_EQ(doctor["at"], "2026-01-02T03:04:05Z");
  EXPECT_EQ(doctor["leftOut"], 2);
  EXPECT_EQ(doctor["sections"][0]["title"], "here");
  EXPECT_EQ(doctor["sections"][0]["findings"][0]["fix"], "renew it");
}

TEST(ParsePageProgress, TakesWhatThePageSendsAndNothingElse) {
  std::string problem;
  EXPECT_EQ(parse_page_progress("", problem)->next, 0U);
  EXPECT_EQ(parse_page_progress("run=&next=0", problem)->run, "");
  EXPECT_EQ(parse_page_progress("run=12&next=7", problem)->next, 7U);
  EXPECT_EQ(parse_page_progress("run=12&next=7", problem)->run, "12");
  EXPECT_EQ(parse_page_progress("next=18446744073709551615", problem)->next, UINT64_MAX);
  EXPECT_TRUE(parse_page_progress("run=" + std::string(64, '1'), problem).has_value());
  EXPECT_TRUE(problem.empty());
  for (const std::string query :
       {"next=", "next=-1", "next=1x", "next=18446744073709551616", "next=+1"}) {
    problem.clear();
    EXPECT_FALSE(parse_page_progress(query, problem).has_value()) << query;
    EXPECT_TRUE(problem.starts_with("next: a number is needed")) << problem;
  }
  EXPECT_FALSE(parse_page_progress("run=" + std::string(65, '1'), problem).has_value());
  EXPECT_TRUE(problem.starts_with("run: 65 characters")) << problem;
}

}  // namespace
}  // namespace detour::admin
