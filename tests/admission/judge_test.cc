#include "admission/judge.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "support/frames.h"

namespace detour::admission {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Result = Verdict::Result;
using test::numbered_key;

constexpr Policy kOneSocket{.sockets = 1};
constexpr Policy kOneUrl{.controllers = 1};

/// A judge, and all that it wants done.
class World final : public JudgeActions {
 public:
  explicit World(const Policy& policy, AllowList list = {}) {
    judge.set_policy(policy, std::move(list), now);
  }

  struct Asked {
    QueryId id = 0;
    std::size_t source = 0;
    crypto::NodePublic key;
    std::string address;
  };

  /// Logs the key of this number in and gives the id of the connection.
  std::uint64_t log_in(std::uint32_t number, const std::string& address = "192.0.2.1") {
    const std::uint64_t id = ++last_id;
    judge.log_in({.id = id, .worker = 3, .subject = {numbered_key(number), address}}, now);
    return id;
  }
  /// Answers the oldest question.
  void answer(Answer answer, const std::string& reason = "because") {
    ASSERT_FALSE(asked.empty());
    const Asked question = asked.front();
    asked.erase(asked.begin());
    judge.answered(question.id,
                   {.answer = answer, .reason = answer == Answer::kAllowed ? "" : reason}, now);
  }
  /// Logs in somebody whom the one source lets in.
  std::uint64_t admitted(std::uint32_t number) {
    const std::uint64_t id = log_in(number);
    answer(Answer::kAllowed);
    EXPECT_TRUE(result(id) == Result::kAllowed);
    return id;
  }
  void pass(Duration time) {
    now += time;
    judge.tick(now);
  }
  [[nodiscard]] std::optional<Result> result(std::uint64_t id) const {
    const auto found = verdicts.find(id);
    return found == verdicts.end() ? std::nullopt : std::optional(found->second.result);
  }
  [[nodiscard]] std::uint64_t logins(Result result) const {
    return counters.logins[static_cast<std::size_t>(result)].get();
  }

  void ask(QueryId id, std::size_t source, const Subject& subject) override {
    asked.push_back({.id = id, .source = source, .key = subject.key, .address = subject.source});
    most_asked = std::max(most_asked, asked.size());
  }
  void decided(const Login& login, const Verdict& verdict) override {
    EXPECT_EQ(login.worker, 3U);
    EXPECT_TRUE(verdicts.emplace(login.id, verdict).second) << "decided twice";
  }
  void cut_off(const Login& login, const std::string& reason) override {
    EXPECT_TRUE(taken_over.contains(login.id) || verdicts.at(login.id).allowed());
    EXPECT_TRUE(cut.emplace(login.id, reason).second) << "cut off twice";
  }

  TimePoint now{seconds(100'000)};
  metrics::AdmissionCounters counters;
  Judge judge{*this, counters};
  std::uint64_t last_id = 0;
  std::vector<Asked> asked;
  std::size_t most_asked = 0;
  std::map<std::uint64_t, Verdict> verdicts;
  std::map<std::uint64_t, std::string> cut;
  std::set<std::uint64_t> taken_over;
};

AllowList list_of(std::initializer_list<std::uint32_t> numbers) {
  std::string content;
  for (const std::uint32_t number : numbers) content += numbered_key(number).typed() + "\n";
  return *AllowList::parse("/allow", content);
}

// --- One source

TEST(Judge, DoesWhatItsOneSourceSays) {
  struct Case {
    Answer answer;
    bool fail_open;
    Result of_socket;
    Result of_url;
  };
  const Case cases[] = {
      {Answer::kAllowed, false, Result::kAllowed, Result::kAllowed},
      {Answer::kDenied, false, Result::kDenied, Result::kDenied},
      {Answer::kFailed, false, Result::kUndecided, Result::kUndecided},
      {Answer::kUnreachable, false, Result::kUndecided, Result::kUndecided},
      {Answer::kDenied, true, Result::kDenied, Result::kDenied},
      {Answer::kFailed, true, Result::kUndecided, Result::kUndecided},
      {Answer::kUnreachable, true, Result::kUndecided, Result::kFailedOpen},
  };
  for (const auto& [answer, fail_open, of_socket, of_url] : cases) {
    for (const bool is_url : {false, true}) {
      SCOPED_TRACE(testing::Message()
                   << static_cast<int>(answer) << " open " << fail_open << " url " << is_url);
      World world(
          {.sockets = is_url ? 0U : 1U, .controllers = is_url ? 1U : 0U, .fail_open = fail_open});
      const auto id = world.log_in(1);
      ASSERT_EQ(world.asked.size(), 1U);
      EXPECT_EQ(world.asked[0].key, numbered_key(1));
      EXPECT_EQ(world.asked[0].address, "192.0.2.1");
      EXPECT_EQ(world.result(id), std::nullopt) << "not before the answer";
      world.answer(answer, "the reason");
      const Result expected = is_url ? of_url : of_socket;
      EXPECT_EQ(world.result(id), expected);
      EXPECT_EQ(world.verdicts[id].log_reason, world.verdicts[id].allowed() ? "" : "the reason");
      EXPECT_EQ(world.logins(expected), 1U);
    }
  }
}

TEST(Judge, WithoutAnySourceEverybodyComesIn) {
  World world({});
  EXPECT_EQ(world.result(world.log_in(1)), Result::kAllowed);
  EXPECT_TRUE(world.asked.empty());
  EXPECT_EQ(world.judge.next_due(), std::nullopt);
}

// --- Several sources

TEST(Judge, CombinesSourcesAsThePolicySays) {
  using enum Answer;
  struct Case {
    const char* name;
    Policy policy;
    std::vector<Answer> answers;  ///< In the order of asking; all of them are asked for.
    Result result;
  };
  const Policy either{.sockets = 1, .controllers = 1};
  const Policy either_open{.sockets = 1, .controllers = 1, .fail_open = true};
  const Policy both{.sockets = 1, .controllers = 1, .needs_both = true};
  const Policy both_open{.sockets = 1, .controllers = 1, .needs_both = true, .fail_open = true};
  const Policy two_sockets{.sockets = 2};
  const Policy two_urls{.controllers = 2};
  const Policy two_urls_open{.controllers = 2, .fail_open = true};
  const Case cases[] = {
      {"either: the socket is enough", either, {kAllowed}, Result::kAllowed},
      {"either: the URL is enough", either, {kDenied, kAllowed}, Result::kAllowed},
      {"either: a broken socket does not matter",
       either,
       {kUnreachable, kAllowed},
       Result::kAllowed},
      {"either: both deny", either, {kDenied, kDenied}, Result::kDenied},
      {"either: one denies, one is silent", either, {kDenied, kUnreachable}, Result::kUndecided},
      {"either: one is silent, one denies", either, {kUnreachable, kDenied}, Result::kUndecided},
      {"either, open: the URL is silent",
       either_open,
       {kDenied, kUnreachable},
       Result::kFailedOpen},
      {"either, open: the URL is broken", either_open, {kDenied, kFailed}, Result::kUndecided},
      {"both: both allow", both, {kAllowed, kAllowed}, Result::kAllowed},
      {"both: the socket denies", both, {kDenied}, Result::kDenied},
      {"both: the socket is silent", both, {kUnreachable}, Result::kUndecided},
      {"both: the URL denies", both, {kAllowed, kDenied}, Result::kDenied},
      {"both: the URL is silent", both, {kAllowed, kUnreachable}, Result::kUndecided},
      {"both, open: the URL is silent", both_open, {kAllowed, kUnreachable}, Result::kFailedOpen},
      {"both, open: the socket is silent", both_open, {kUnreachable}, Result::kUndecided},
      {"two sockets: the first", two_sockets, {kAllowed}, Result::kAllowed},
      {"two sockets: the second", two_sockets, {kDenied, kAllowed}, Result::kAllowed},
      {"two sockets: neither", two_sockets, {kDenied, kDenied}, Result::kDenied},
      {"two sockets: one is silent", two_sockets, {kUnreachable, kDenied}, Result::kUndecided},
      {"two URLs: one is silent", two_urls, {kUnreachable, kAllowed}, Result::kAllowed},
      {"two URLs, open: both are silent",
       two_urls_open,
       {kUnreachable, kUnreachable},
       Result::kFailedOpen},
      {"two URLs, open: one denies", two_urls_open, {kUnreachable, kDenied}, Result::kUndecided},
  };
  for (const auto& [name, policy, answers, result] : cases) {
    SCOPED_TRACE(name);
    World world(policy);
    const auto id = world.log_in(1);
    for (const Answer answer : answers) {
      EXPECT_EQ(world.result(id), std::nullopt);
      world.answer(answer);
    }
    EXPECT_EQ(world.result(id), result);
  }
}

TEST(Judge, AsksAllSourcesOfAKindAtOnceAndIgnoresLateAnswers) {
  World world({.sockets = 2, .controllers = 2});
  const auto id = world.log_in(1);
  ASSERT_EQ(world.asked.size(), 2U);
  EXPECT_EQ(world.asked[0].source, 0U);
  EXPECT_EQ(world.asked[1].source, 1U);
  world.answer(Answer::kDenied);
  world.answer(Answer::kDenied);
  ASSERT_EQ(world.asked.size(), 2U);
  EXPECT_EQ(world.asked[0].source, 2U);
  EXPECT_EQ(world.asked[1].source, 3U);
  world.answer(Answer::kAllowed);
  EXPECT_EQ(world.result(id), Result::kAllowed);
  EXPECT_EQ(world.counters.in_flight.get(), 0U);
  world.answer(Answer::kDenied);
  EXPECT_TRUE(world.cut.empty());
}

// --- The allow list

TEST(Judge, WhoIsOnTheListComesInWithoutAQuestion) {
  World world({.sockets = 1, .has_allow_list = true}, list_of({1}));
  EXPECT_EQ(world.result(world.log_in(1)), Result::kAllowed);
  EXPECT_TRUE(world.asked.empty());
  const auto other = world.log_in(2);
  world.answer(Answer::kAllowed);
  EXPECT_EQ(world.result(other), Result::kAllowed);
}

TEST(Judge, WithNothingButAListTheOthersAreDeniedAndToldWhy) {
  World world({.has_allow_list = true}, list_of({1}));
  const auto id = world.log_in(2);
  EXPECT_EQ(world.result(id), Result::kDenied);
  EXPECT_TRUE(world.verdicts[id].log_reason.contains("not in the allow file"));
  EXPECT_TRUE(world.asked.empty());
}

TEST(Judge, WhoIsTakenOffTheListIsCutOffAtOnce) {
  World world({.has_allow_list = true}, list_of({1, 2}));
  const auto first = world.log_in(1);
  const auto second = world.log_in(2);
  const auto again = world.log_in(1);
  world.judge.set_allow_list(list_of({2, 3}), world.now);
  EXPECT_TRUE(world.cut.contains(first));
  EXPECT_TRUE(world.cut.contains(again));
  EXPECT_FALSE(world.cut.contains(second));
  EXPECT_EQ(world.counters.cut_offs.get(), 2U);
  EXPECT_EQ(world.result(world.log_in(3)), Result::kAllowed) << "and who was added comes in";
  EXPECT_EQ(world.result(world.log_in(1)), Result::kDenied);
}

TEST(Judge, WhoIsTakenOffTheListStaysIfASourceSaysSo) {
  World world({.sockets = 1, .has_allow_list = true}, list_of({1, 2}));
  const auto first = world.log_in(1);
  const auto second = world.log_in(2);
  world.judge.set_allow_list(list_of({}), world.now);
  EXPECT_TRUE(world.cut.empty()) << "not before the source was asked";
  ASSERT_EQ(world.asked.size(), 2U);
  const bool first_is_first = world.asked[0].key == numbered_key(1);
  world.answer(first_is_first ? Answer::kAllowed : Answer::kDenied);
  world.answer(first_is_first ? Answer::kDenied : Answer::kAllowed);
  EXPECT_FALSE(world.cut.contains(first));
  EXPECT_TRUE(world.cut.contains(second));
}

// --- Remembering answers

TEST(Judge, AnAllowedClientComesAgainWithoutAQuestionForAWhile) {
  World world(kOneSocket);
  world.judge.left(world.admitted(1), world.now);
  world.pass(kAllowedLifetime - milliseconds(1));
  EXPECT_EQ(world.result(world.log_in(1)), Result::kAllowed);
  EXPECT_EQ(world.counters.cache_hits.get(), 1U);
  EXPECT_TRUE(world.asked.empty());
  world.pass(milliseconds(1));
  EXPECT_EQ(world.result(world.log_in(1)), std::nullopt);
  EXPECT_EQ(world.asked.size(), 1U);
}

TEST(Judge, ARefusalHoldsForAMomentOnly) {
  World world(kOneSocket);
  world.log_in(1);
  world.answer(Answer::kDenied);
  world.pass(kRefusedLifetime - milliseconds(1));
  EXPECT_EQ(world.result(world.log_in(1)), Result::kDenied);
  world.pass(milliseconds(1));
  const auto id = world.log_in(1);
  world.answer(Answer::kAllowed);
  EXPECT_EQ(world.result(id), Result::kAllowed);
}

TEST(Judge, LoginsOfOneKeyShareAQuestion) {
  World world(kOneSocket);
  const auto first = world.log_in(1);
  const auto second = world.log_in(1, "198.51.100.9");
  EXPECT_EQ(world.asked.size(), 1U);
  world.answer(Answer::kAllowed);
  EXPECT_EQ(world.result(first), Result::kAllowed);
  EXPECT_EQ(world.result(second), Result::kAllowed);
}

TEST(Judge, AControllerIsAskedForEachAddressSinceItIsTold) {
  World world(kOneUrl);
  world.log_in(1);
  world.log_in(1, "198.51.100.9");
  EXPECT_EQ(world.asked.size(), 2U);
}

TEST(Judge, RefusedClientsAreHeldLongerEachTimeAndLoggedNowAndThen) {
  World world(kOneSocket);
  std::vector<Duration> holds;
  int logged = 0;
  const TimePoint begin = world.now;
  while (world.now - begin < kLogAgainAfter) {
    const auto id = world.log_in(1);
    if (!world.asked.empty()) world.answer(Answer::kDenied);
    holds.push_back(world.verdicts[id].hold);
    if (!world.verdicts[id].log_reason.empty()) ++logged;
    world.pass(world.verdicts[id].hold);
  }
  EXPECT_EQ(logged, 1);
  EXPECT_TRUE(std::ranges::is_sorted(holds));
  EXPECT_EQ(holds.front(), milliseconds(200));
  EXPECT_EQ(holds.back(), seconds(5));
  EXPECT_LT(holds.size(), 70U) << "that is how often it may come in five minutes";
  const auto id = world.log_in(1);
  if (!world.asked.empty()) world.answer(Answer::kDenied);
  EXPECT_EQ(world.verdicts[id].log_reason, "because");
}

TEST(Judge, WhoWasNotRefusedForAMinuteIsHeldShortlyAgain) {
  World world(kOneSocket);
  for (int i = 0; i < 4; ++i) {
    const auto id = world.log_in(1);
    if (!world.asked.empty()) world.answer(Answer::kDenied);
    world.pass(world.verdicts[id].hold);
  }
  world.pass(seconds(61));
  const auto id = world.log_in(1);
  world.answer(Answer::kDenied);
  EXPECT_EQ(world.verdicts[id].hold, milliseconds(200));
}

// --- Staying

TEST(Judge, NobodyStaysOnAnAnswerOlderThanTheRecheckPeriod) {
  World world(kOneSocket);
  // Many keys, since each has its own time within the last part of the period.
  std::map<crypto::NodePublic, TimePoint> answered_at;
  for (std::uint32_t number = 1; number <= 20; ++number) {
    world.admitted(number << 24U);
    answered_at[numbered_key(number << 24U)] = world.now;
  }
  const TimePoint end = world.now + seconds(300);
  while (world.now < end) {
    world.pass(milliseconds(100));
    while (!world.asked.empty()) {
      TimePoint& last = answered_at.at(world.asked.front().key);
      EXPECT_GE(world.now - last, kRecheckPeriod - kRecheckJitter);
      EXPECT_LE(world.now - last, kRecheckPeriod + milliseconds(100));
      last = world.now;
      world.answer(Answer::kAllowed);
    }
  }
  EXPECT_TRUE(world.cut.empty());
  for (const auto& [key, at] : answered_at) EXPECT_LE(world.now - at, kRecheckPeriod);
}

TEST(Judge, ALoginOnARememberedAnswerIsCheckedWhenThatAnswerIsOld) {
  World world(kOneSocket);
  world.judge.left(world.admitted(1), world.now);
  const TimePoint answered_at = world.now;
  world.pass(kAllowedLifetime - seconds(1));
  world.log_in(1);
  EXPECT_TRUE(world.asked.empty());
  ASSERT_TRUE(world.judge.next_due());
  EXPECT_LE(*world.judge.next_due(), answered_at + kRecheckPeriod);
}

TEST(Judge, WhoIsDeniedAtARecheckIsCutOffWithAllItsConnections) {
  World world(kOneSocket);
  const auto first = world.admitted(1);
  const auto second = world.log_in(1);
  const auto other = world.admitted(2);
  world.pass(kRecheckPeriod);
  ASSERT_EQ(world.asked.size(), 2U);
  while (!world.asked.empty())
    world.answer(world.asked.front().key == numbered_key(1) ? Answer::kDenied : Answer::kAllowed,
                 "it was removed");
  EXPECT_EQ(world.cut[first], "it was removed");
  EXPECT_EQ(world.cut[second], "it was removed");
  EXPECT_FALSE(world.cut.contains(other));
  EXPECT_EQ(world.result(world.log_in(1)), Result::kDenied);
}

TEST(Judge, ASourceThatFailsAtARecheckCutsNobodyOffUntilItSaysNo) {
  for (const Answer silence : {Answer::kUnreachable, Answer::kFailed}) {
    World world(kOneUrl);
    const auto id = world.admitted(1);
    world.pass(kRecheckPeriod);
    for (int i = 0; i < 10; ++i) {
      ASSERT_EQ(world.asked.size(), 1U) << i;
      world.answer(silence);
      EXPECT_TRUE(world.cut.empty());
      world.pass(kRecheckRetry);
    }
    world.answer(Answer::kDenied);
    EXPECT_TRUE(world.cut.contains(id));
  }
}

TEST(Judge, WhoLeftIsAskedAboutNoMore) {
  World world(kOneSocket);
  const auto first = world.admitted(1);
  const auto second = world.log_in(1);
  world.judge.left(first, world.now);
  EXPECT_TRUE(world.judge.next_due()) << "the other connection is still there";
  world.judge.left(second, world.now);
  EXPECT_EQ(world.judge.next_due(), std::nullopt);
  world.judge.left(second, world.now);
  world.pass(kForgetAfter);
  EXPECT_TRUE(world.asked.empty());
}

TEST(Judge, WhoLeavesWhileItWaitsIsNotDecided) {
  World world(kOneSocket);
  const auto id = world.log_in(1);
  world.judge.left(id, world.now);
  EXPECT_EQ(world.counters.waiting.get(), 0U);
  world.answer(Answer::kAllowed);
  EXPECT_EQ(world.result(id), std::nullopt);
  EXPECT_EQ(world.result(world.log_in(1)), Result::kAllowed) << "but the answer is remembered";
}

// --- Bounds

TEST(Judge, BoundsQuestionsUnderWayAndAsksForTheRestInTurn) {
  World world(kOneSocket);
  for (std::uint32_t number = 1; number <= kQueriesMax + 10; ++number) world.log_in(number);
  EXPECT_EQ(world.asked.size(), kQueriesMax);
  EXPECT_EQ(world.counters.in_flight.get(), kQueriesMax);
  EXPECT_EQ(world.counters.waiting.get(), kQueriesMax + 10);
  std::uint32_t next = 0;
  while (!world.asked.empty()) {
    EXPECT_EQ(world.asked.front().key, numbered_key(++next)) << "the first come first";
    world.answer(Answer::kAllowed);
  }
  EXPECT_EQ(next, kQueriesMax + 10);
  EXPECT_EQ(world.most_asked, kQueriesMax);
  EXPECT_EQ(world.counters.waiting.get(), 0U);
}

TEST(Judge, BoundsWaitingLoginsAndRefusesTheNext) {
  World world(kOneSocket);
  for (std::uint32_t number = 1; number <= kLoginsWaitingMax; ++number) world.log_in(number);
  EXPECT_TRUE(world.verdicts.empty());
  const auto id = world.log_in(1'000'000);
  EXPECT_EQ(world.result(id), Result::kBusy);
  EXPECT_TRUE(world.verdicts[id].log_reason.contains("too many logins"));
  const auto one_more = world.log_in(1);
  EXPECT_EQ(world.result(one_more), Result::kBusy) << "of a known key, too";
  world.answer(Answer::kAllowed);
  EXPECT_EQ(world.result(world.log_in(1'000'001)), std::nullopt) << "there is room again";
}

TEST(Judge, RechecksLeaveRoomForLogins) {
  World world(kOneSocket);
  for (std::uint32_t number = 1; number <= kQueriesMax; ++number) world.admitted(number);
  world.pass(kRecheckPeriod);
  EXPECT_EQ(world.asked.size(), kRecheckQueriesMax);
  const auto id = world.log_in(1'000'000);
  EXPECT_EQ(world.asked.size(), kRecheckQueriesMax + 1);
  EXPECT_EQ(world.asked.back().key, numbered_key(1'000'000));
  std::size_t answered = 0;
  while (!world.asked.empty()) {
    world.answer(Answer::kAllowed);
    ++answered;
  }
  EXPECT_EQ(answered, kQueriesMax + 1) << "all are checked in the end";
  EXPECT_EQ(world.result(id), Result::kAllowed);
}

TEST(Judge, ForgetsWhoWasRefusedAndTheLongestAgoFirst) {
  World world(kOneSocket);
  // The first refusal is logged; as long as it is remembered, the next is not.
  const auto logs = [&world](std::uint32_t number) {
    const auto id = world.log_in(number);
    if (!world.asked.empty()) world.answer(Answer::kDenied);
    return !world.verdicts[id].log_reason.empty();
  };
  for (std::uint32_t number = 1; number <= kRememberedMax; ++number) ASSERT_TRUE(logs(number));
  EXPECT_FALSE(logs(1)) << "all are remembered, and this one is now the youngest";
  EXPECT_TRUE(logs(kRememberedMax + 1));
  EXPECT_FALSE(logs(1));
  EXPECT_TRUE(logs(2)) << "made room for the one beyond the bound";
}

// --- Changed settings

TEST(Judge, ChangedSourcesCheckEverybodyAnew) {
  World world(kOneSocket);
  const auto stays = world.admitted(1);
  const auto goes = world.admitted(2);
  const auto waits = world.log_in(3);
  const QueryId old_question = world.asked.front().id;
  world.asked.clear();

  world.judge.set_policy(kOneUrl, {}, world.now);
  EXPECT_EQ(world.asked.size(), 3U);
  world.judge.answered(old_question, {.answer = Answer::kDenied}, world.now);
  EXPECT_EQ(world.result(waits), std::nullopt) << "an old answer counts no more";
  while (!world.asked.empty())
    world.answer(world.asked.front().key == numbered_key(2) ? Answer::kDenied : Answer::kAllowed);
  EXPECT_FALSE(world.cut.contains(stays));
  EXPECT_TRUE(world.cut.contains(goes));
  EXPECT_EQ(world.result(waits), Result::kAllowed);
}

TEST(Judge, WithoutSourcesAnyMoreEverybodyStaysAndComesIn) {
  World world(kOneSocket);
  const auto id = world.admitted(1);
  const auto waits = world.log_in(2);
  world.judge.set_policy({}, {}, world.now);
  world.pass(kRecheckPeriod);
  EXPECT_FALSE(world.cut.contains(id));
  EXPECT_EQ(world.result(waits), Result::kAllowed);
}

TEST(Judge, AListAloneCutsOffWhoIsNotOnIt) {
  World world(kOneSocket);
  const auto stays = world.admitted(1);
  const auto goes = world.admitted(2);
  world.judge.set_policy({.has_allow_list = true}, list_of({1}), world.now);
  EXPECT_FALSE(world.cut.contains(stays));
  EXPECT_TRUE(world.cut.contains(goes));
}

TEST(Judge, WhoCameUncheckedIsChecked) {
  World world({});
  const auto id = world.log_in(1);
  world.taken_over.insert(77);
  world.judge.take_over({.id = 77, .worker = 3, .subject = {numbered_key(2), ""}}, world.now);
  world.judge.set_policy({.has_allow_list = true}, list_of({}), world.now);
  EXPECT_TRUE(world.cut.contains(id));
  EXPECT_TRUE(world.cut.contains(77));
}

// --- Anything at all

class JudgeTest : public testing::TestWithParam<std::uint32_t> {};

// The last one once led to more queries in flight than are allowed.
INSTANTIATE_TEST_SUITE_P(Seeds, JudgeTest,
                         testing::Values(1U, 2U, 3U, 4U, 5U, 6U, 7U, 8U, 3662454780U));

TEST_P(JudgeTest, KeepsItsPromisesThroughAnything) {
  const auto seed = GetParam();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::minstd_rand random(seed);
  const auto below = [&random](std::uint32_t bound) {
    return static_cast<std::uint32_t>(random() % bound);
  };
  World world({.sockets = 2, .controllers = 1, .has_allow_list = true}, list_of({1, 2}));
  std::set<std::uint64_t> open;
  for (int step = 0; step < 20'000; ++step) {
    switch (below(6)) {
      case 0:
      case 1:
        open.insert(world.log_in(1 + below(30), below(2) == 0 ? "a" : "b"));
        break;
      case 2:
        if (open.empty()) break;
        world.judge.left(*open.begin(), world.now);
        open.erase(open.begin());
        break;
      case 3:
        world.pass(milliseconds(below(20'000)));
        break;
      case 4:
        if (below(200) == 0) world.judge.set_allow_list(list_of({1 + below(30)}), world.now);
        if (below(1000) == 0)
          world.judge.set_policy({.sockets = below(3),
                                  .controllers = below(3),
                                  .has_allow_list = true,
                                  .needs_both = below(2) == 0,
                                  .fail_open = below(2) == 0},
                                 list_of({3}), world.now);
        break;
      default:
        while (!world.asked.empty() && below(5) != 0) world.answer(static_cast<Answer>(below(4)));
        break;
    }
    std::erase_if(open, [&](std::uint64_t id) {
      return world.cut.contains(id) || (world.result(id) && !world.verdicts[id].allowed());
    });
    ASSERT_LE(world.counters.in_flight.get(), kQueriesMax);
  }
  // In the end everything is answered and everybody leaves: nothing may be left over.
  for (int i = 0; i < 100'000 && !world.asked.empty(); ++i) world.answer(Answer::kAllowed);
  EXPECT_EQ(world.counters.in_flight.get(), 0U);
  EXPECT_EQ(world.counters.waiting.get(), 0U);
  for (const auto id : open) {
    if (world.cut.contains(id)) continue;
    EXPECT_TRUE(world.result(id)) << id;
    world.judge.left(id, world.now);
  }
  world.asked.clear();
  world.pass(kForgetAfter);
  EXPECT_EQ(world.judge.next_due(), std::nullopt);
  EXPECT_TRUE(world.asked.empty());
}

}  // namespace
}  // namespace detour::admission
