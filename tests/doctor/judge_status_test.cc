#include "doctor/judge_status.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

namespace detour::doctor {
namespace {

/// One client as the status lists it.
std::string client(double sent_bytes, int packets, int evicted, int retransmissions, double rtt) {
  return fmt::format(
      R"({{"name":"","shortKey":"[abcde]","sentBytes":{},"sentPackets":{},)"
      R"("dropped":{{"queue_head":{}}},"tcp":{{"rttMs":{},"retransmissions":{},"sentBytes":{}}}}})",
      sent_bytes, packets, evicted, rtt, retransmissions, sent_bytes);
}
std::string with_clients(const std::string& clients) {
  return fmt::format(R"({{"clients":[{}]}})", clients);
}
std::string with_pair(double bytes, double seconds) {
  return fmt::format(
      R"({{"clients":[],"pairsSeconds":{},"pairs":[{{"a":"nodekey:aa","b":"nodekey:bb",)"
      R"("nameA":"laptop","nameB":"","bytesFromA":{},"bytesFromB":0}}]}})",
      seconds, bytes);
}

TEST(JudgeStatus, SaysOnlyWhatTheStatusShows) {
  struct Case {
    const char* name;
    std::string status;
    std::string said;  ///< State, code and fault of each finding.
  };
  const Case cases[] = {
      {"nobody", with_clients(""), ""},
      {"a good path", with_clients(client(14e6, 10000, 0, 10, 40)), "PASS D27 ;"},
      {"a lossy path, just at the limit", with_clients(client(14e6, 10000, 0, 500, 40)),
       "PASS D27 ;"},
      {"a lossy path", with_clients(client(14e6, 10000, 0, 501, 40)), "WARN D27 loss;"},
      {"too little to judge", with_clients(client(0.9e6, 600, 100, 300, 40)), "PASS D27 ;"},
      {"drops, just at the limit", with_clients(client(14e6, 9900, 100, 0, 40)), "PASS D27 ;"},
      {"drops", with_clients(client(14e6, 9900, 101, 0, 40)), "WARN D27 slow-clients;"},
      {"both", with_clients(client(14e6, 100, 100, 5000, 40)),
       "WARN D27 loss;WARN D27 slow-clients;"},
      {"without what TCP says", R"({"clients":[{"sentBytes":5e6,"sentPackets":10,"tcp":null}]})",
       ""},
      {"a pair that talks", with_pair(2.4e6, 10), ""},
      {"a pair that talks a lot", with_pair(2.6e6, 10), "INFO D33 heavy-pair;"},
      {"a burst that just began", with_pair(2.4e6, 0.1), ""},
      {"not JSON", "offline", ""},
      {"other JSON", R"([1, {"clients": 3}])", ""},
      {"odd members", R"({"clients": [3, {"tcp": 4, "dropped": []}], "pairs": {}})", ""},
  };
  for (const auto& [name, status, said] : cases) {
    SCOPED_TRACE(name);
    std::string all;
    for (const auto& finding : judge_status(status)) {
      all += fmt::format("{} {} {};", state_name(finding.state), finding.code, finding.fault);
      EXPECT_FALSE(finding.cause.empty());
      EXPECT_EQ(finding.fix.empty(), finding.state == State::kPass);
    }
    EXPECT_EQ(all, said);
  }
}

TEST(JudgeStatus, NamesTheWorstClientAndTheHeaviestPair) {
  const auto lossy = judge_status(
      with_clients(client(14e6, 10000, 0, 0, 10) + "," + client(14e6, 10000, 0, 2000, 10)));
  ASSERT_EQ(lossy.size(), 1U);
  EXPECT_NE(lossy[0].cause.find("1 of 2 clients"), std::string::npos) << lossy[0].cause;
  EXPECT_NE(lossy[0].cause.find("20 % to [abcde]"), std::string::npos) << lossy[0].cause;
  const auto heavy = judge_status(with_pair(50e6, 10));
  ASSERT_EQ(heavy.size(), 1U);
  EXPECT_NE(heavy[0].cause.find("laptop and nodekey:bb relay 40 Mbit/s"), std::string::npos)
      << heavy[0].cause;
}

}  // namespace
}  // namespace detour::doctor
