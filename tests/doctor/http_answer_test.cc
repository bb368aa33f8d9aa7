#include "doctor/http_answer.h"

#include <gtest/gtest.h>

#include <string>

namespace detour::doctor {
namespace {

constexpr std::string_view kAnswer =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nServer:  nginx/1.22 \r\n\r\nrest";

TEST(ParseAnswerHead, GivesStatusAndHeadersInAnyCase) {
  const auto answer = parse_answer_head(kAnswer);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 101U);
  EXPECT_EQ(answer->header("upgrade"), "DERP");
  EXPECT_EQ(answer->header("SERVER"), "nginx/1.22");
  EXPECT_EQ(answer->header("Date"), "");
  EXPECT_EQ(kAnswer.substr(answer->head_size), "rest");
}

TEST(ParseAnswerHead, WaitsForTheEmptyLineAtEveryTruncation) {
  const std::size_t head_size = kAnswer.size() - 4;
  for (std::size_t size = 0; size < head_size; ++size)
    EXPECT_FALSE(parse_answer_head(kAnswer.substr(0, size))) << size;
  EXPECT_TRUE(parse_answer_head(kAnswer.substr(0, head_size)));
}

TEST(ParseAnswerHead, TellsWhatIsNoHttpAtItsFirstByte) {
  for (const std::string_view text : {"S", "* OK IMAP", "HTTP/2", "http/1.1 200 OK\r\n\r\n"}) {
    const auto answer = parse_answer_head(text);
    ASSERT_TRUE(answer) << text;
    EXPECT_EQ(answer->status, 0U) << text;
  }
  EXPECT_EQ(parse_answer_head("HTTP/1.1 2x0 OK\r\n\r\n")->status, 0U);
  EXPECT_EQ(parse_answer_head("HTTP/1.1\r\n\r\n")->status, 0U);
}

TEST(ParseAnswerHead, GivesUpOneByteBeyondTheLimit) {
  std::string endless = "HTTP/1.1 200 OK\r\nX: ";
  endless.resize(kAnswerHeadMax, 'x');
  EXPECT_FALSE(parse_answer_head(endless));
  endless += 'x';
  const auto answer = parse_answer_head(endless);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 0U);
}

TEST(ParseHttpDate, ReadsTheUsualFormOnly) {
  EXPECT_EQ(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), 784111777);
  EXPECT_EQ(parse_http_date("Sun, 06 Nov 1994 08:49:37 CET"), std::nullopt);
  EXPECT_EQ(parse_http_date("yesterday"), std::nullopt);
  EXPECT_EQ(parse_http_date(""), std::nullopt);
}

}  // namespace
}  // namespace detour::doctor
