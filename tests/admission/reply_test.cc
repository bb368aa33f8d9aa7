#include "admission/reply.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>

#include "support/frames.h"

namespace detour::admission {
namespace {

TEST(Whois, AsksForTheKeyAsDerperDoes) {
  const auto key = test::numbered_key(7);
  EXPECT_EQ(whois_path(key), "/localapi/v0/whois?addr=nodekey%3A" + key.hex());
}

TEST(Whois, EachAnswerOfTailscaledHasItsMeaningAndItsFix) {
  struct Case {
    const char* name;
    long status;
    std::string body;
    Answer answer;
    const char* says;
  };
  const Case cases[] = {
      {"known", 200, R"({"Node":{"ID":1},"UserProfile":{}})", Answer::kAllowed, ""},
      {"unknown", 404, "no match for IP:port\n", Answer::kDenied, "does not know this node"},
      {"too old", 400, "invalid 'addr' parameter\n", Answer::kFailed, "update it to 1.70"},
      {"another bad request", 400, "missing\n", Answer::kFailed, "status 400: \"missing\""},
      {"access denied", 403, "whois access denied\n", Answer::kFailed, "--operator="},
      {"not ready", 500, "\x1b[1mno\n netmap", Answer::kFailed, "status 500: \" [1mno  netmap\""},
      {"no JSON", 200, "<html>", Answer::kFailed, "no JSON object: \"<html>\""},
      {"half of it", 200, R"({"Node":)", Answer::kFailed, "no JSON object"},
      {"nothing", 200, "", Answer::kFailed, "no JSON object: nothing"},
      {"a list", 200, "[]", Answer::kFailed, "no JSON object"},
  };
  for (const auto& [name, status, body, answer, says] : cases) {
    SCOPED_TRACE(name);
    const Reply reply = whois_reply("/run/ts.sock", status, body);
    EXPECT_EQ(reply.answer, answer);
    EXPECT_TRUE(reply.reason.contains(says)) << reply.reason;
    EXPECT_EQ(reply.reason.contains("/run/ts.sock"), answer != Answer::kAllowed);
  }
}

TEST(Whois, EachFailureOfTheSocketHasItsFix) {
  const std::pair<int, const char*> cases[] = {
      {ENOENT, "there is no socket /s: start tailscaled"},
      {EACCES, "may not open the socket /s"},
      {ECONNREFUSED, "mount the folder and not the socket"},
      {EMFILE, "cannot be asked: Too many open files"},
  };
  for (const auto& [error, says] : cases) {
    const Reply reply = socket_failure("/s", error);
    EXPECT_EQ(reply.answer, Answer::kUnreachable);
    EXPECT_TRUE(reply.reason.contains(says)) << reply.reason;
  }
}

TEST(Controller, IsAskedWithExactlyDerpersJson) {
  const auto key = test::numbered_key(7);
  EXPECT_EQ(controller_request(key, "203.0.113.7"),
            R"({"NodePublic":"nodekey:)" + key.hex() + R"(","Source":"203.0.113.7"})");
  EXPECT_EQ(controller_request(key, ""),
            R"({"NodePublic":"nodekey:)" + key.hex() + R"(","Source":""})");
}

TEST(Controller, ItsAnswerIsReadAsGoReadsIt) {
  struct Case {
    const char* name;
    long status;
    std::string body;
    Answer answer;
  };
  const std::string allow = R"({"Allow":true})";
  const Case cases[] = {
      {"yes", 200, allow, Answer::kAllowed},
      {"no", 200, R"({"Allow":false})", Answer::kDenied},
      {"says nothing", 200, "{}", Answer::kDenied},
      {"null", 200, "null", Answer::kDenied},
      {"a field of null", 200, R"({"Allow":null})", Answer::kDenied},
      {"in lower case", 200, R"({"allow":true})", Answer::kAllowed},
      {"in upper case", 200, R"({"ALLOW":true})", Answer::kAllowed},
      {"the last counts", 200, R"({"Allow":true,"allow":false})", Answer::kDenied},
      {"among others", 200, R"({"x":{"Allow":false},"Allow":true,"y":[true]})", Answer::kAllowed},
      {"only deeper", 200, R"({"x":{"Allow":true}})", Answer::kDenied},
      {"something behind", 200, allow + "garbage", Answer::kAllowed},
      {"a text", 200, R"({"Allow":"true"})", Answer::kFailed},
      {"a number", 200, R"({"Allow":1})", Answer::kFailed},
      {"an object", 200, R"({"Allow":{}})", Answer::kFailed},
      {"true alone", 200, "true", Answer::kFailed},
      {"a list", 200, "[]", Answer::kFailed},
      {"nothing", 200, "", Answer::kFailed},
      {"no JSON", 200, "<html>", Answer::kFailed},
      {"ends at 4096 bytes", 200, std::string(4096 - allow.size(), ' ') + allow, Answer::kAllowed},
      {"ends behind them", 200, std::string(4097 - allow.size(), ' ') + allow, Answer::kFailed},
      {"another good status", 204, allow, Answer::kFailed},
      {"refused", 403, allow, Answer::kFailed},
      {"broken", 500, allow, Answer::kFailed},
  };
  for (const auto& [name, status, body, answer] : cases) {
    SCOPED_TRACE(name);
    const Reply reply = controller_reply("http://c/verify", status, body);
    EXPECT_EQ(reply.answer, answer) << reply.reason;
    EXPECT_EQ(reply.reason.contains("http://c/verify"), answer != Answer::kAllowed) << reply.reason;
  }
  EXPECT_TRUE(controller_reply("u", 401, "").reason.contains("--verify-client-url-auth-file"));
}

}  // namespace
}  // namespace detour::admission
