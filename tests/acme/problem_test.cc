#include "acme/problem.h"

#include <gtest/gtest.h>

#include <string>

#include "acme/keeper.h"
#include "support/certificates.h"
#include "support/says.h"

namespace detour::acme {
namespace {

using std::chrono::days;
using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using test::kTestTime;
using test::says;

HttpsReply reply_with(std::string_view retry_after) {
  return {.status = 429, .headers = {{"retry-after", std::string(retry_after)}}, .body = ""};
}

TEST(RetryAfter, IsReadAsSecondsOrAsDateWithinABound) {
  // kTestTime is 2026-06-01, a Monday.
  EXPECT_EQ(retry_after(reply_with("120"), kTestTime), seconds(120));
  EXPECT_EQ(retry_after(reply_with("Mon, 01 Jun 2026 00:10:00 GMT"), kTestTime), minutes(10));
  EXPECT_EQ(retry_after(reply_with("Sun, 31 May 2026 00:00:00 GMT"), kTestTime), seconds(0));
  EXPECT_EQ(retry_after(reply_with("-5"), kTestTime), seconds(0));
  EXPECT_EQ(retry_after(reply_with("604800"), kTestTime), kRetryAfterMax);
  EXPECT_EQ(retry_after(reply_with("604801"), kTestTime), kRetryAfterMax);
  EXPECT_EQ(retry_after(reply_with("soon"), kTestTime), std::nullopt);
  EXPECT_EQ(retry_after(reply_with(""), kTestTime), std::nullopt);
}

TEST(RetryDelay, DoublesFromTwoMinutesToAnHourAndIsSpread) {
  EXPECT_EQ(retry_delay(1, 0, {}), minutes(2));
  EXPECT_EQ(retry_delay(2, 0, {}), minutes(4));
  EXPECT_EQ(retry_delay(5, 0, {}), minutes(32));
  EXPECT_EQ(retry_delay(6, 0, {}), hours(1));
  EXPECT_EQ(retry_delay(1'000'000, 0, {}), hours(1));
  EXPECT_EQ(retry_delay(1, 0.5, {}), seconds(132));
  EXPECT_EQ(retry_delay(1, 1.0, {}), seconds(144));
}

TEST(RetryDelay, IsNeverLessThanTheAuthorityAsks) {
  EXPECT_EQ(retry_delay(1, 0.5, hours(30)), hours(30));
  EXPECT_EQ(retry_delay(1, 0, seconds(1)), minutes(2));
}

TEST(RetryDelay, KeepsToFiveAttemptsInTheFirstHour) {
  for (const double jitter : {0.0, 1.0}) {
    seconds at{0};
    std::uint64_t attempts = 1;
    while ((at += retry_delay(attempts, jitter, {})) < hours(1)) ++attempts;
    EXPECT_LE(attempts, 5U);
    EXPECT_GE(attempts, 4U);
  }
}

TEST(RenewalTime, IsThirtyDaysOrAThirdOfTheLifeBeforeTheEnd) {
  EXPECT_EQ(renewal_time(kTestTime, kTestTime + days(90)), kTestTime + days(60));
  EXPECT_EQ(renewal_time(kTestTime, kTestTime + days(398)), kTestTime + days(368));
  EXPECT_EQ(renewal_time(kTestTime, kTestTime + days(6)), kTestTime + days(4));
  EXPECT_EQ(renewal_time(kTestTime, kTestTime + seconds(30)), kTestTime + seconds(20));
}

TEST(ProblemOfReply, SaysTheAuthoritysWordsAndWhatToDo) {
  HttpsReply reply{.status = 429,
                   .headers = {{"retry-after", "3600"}},
                   .body = R"({"type":"urn:ietf:params:acme:error:rateLimited",
                               "detail":"too many\ncertificates",
                               "subproblems":[{"detail":"one"},{"detail":"two"}]})"};
  const auto problem = problem_of_reply(reply, "ordering", kTestTime);
  EXPECT_EQ(problem.type, "rateLimited");
  EXPECT_EQ(problem.retry_after, hours(1));
  EXPECT_TRUE(says(problem.text, "ordering: the authority refuses: too many certificates"));
  EXPECT_TRUE(says(problem.text, "; one; two"));
  EXPECT_TRUE(says(problem.text, "keep the certificate folder"));
  EXPECT_EQ(problem.text.find('\n'), std::string::npos) << "one line of log";
}

TEST(ProblemOfReply, CopesWithAnythingThatIsNoAcmeError) {
  for (const std::string body : {"", "<html>Bad Gateway</html>", "[]", "{}", R"({"type":7})",
                                 R"({"subproblems":[1,"x",{}]})"}) {
    const auto problem =
        problem_of_reply({.status = 502, .headers = {}, .body = body}, "it", kTestTime);
    EXPECT_TRUE(says(problem.text, "it: ")) << body;
    EXPECT_TRUE(says(problem.text, "502")) << body;
    EXPECT_EQ(problem.type, "");
  }
}

TEST(ProblemOfChallenge, NamesPortRecordOrHook) {
  struct Case {
    std::string_view challenge;
    std::string_view type;
    std::string_view said;
  };
  constexpr Case kCases[] = {
      {"http-01", "connection", "TCP port 80 of derp.example.com"},
      {"tls-alpn-01", "connection", "TCP port 443"},
      {"tls-alpn-01", "urn:ietf:params:acme:error:tls", "TCP port 443"},
      {"http-01", "dns", "A or AAAA record"},
      {"http-01", "unauthorized", "no other server or proxy answers"},
      {"http-01", "caa", "CAA record"},
      {"dns-01", "dns", "TXT record _acme-challenge.derp.example.com"},
      {"dns-01", "unauthorized", "exactly the value"},
  };
  for (const auto& [challenge, type, said] : kCases) {
    const auto problem =
        problem_of_challenge({.value = "derp.example.com"}, challenge, type, "no route");
    EXPECT_TRUE(problem.is_challenge);
    EXPECT_TRUE(says(problem.text, "derp.example.com failed: no route"));
    EXPECT_TRUE(says(problem.text, said)) << challenge << " " << type;
  }
}

}  // namespace
}  // namespace detour::acme
