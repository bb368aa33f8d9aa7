#include <gtest/gtest.h>

#include <string>

#include "base/bytes.h"
#include "http/message.h"

namespace detour::http {
namespace {

constexpr std::int64_t kNow = 784111777;  // The example of RFC 9110 section 5.6.7.
constexpr std::string_view kDate = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";

Request request_of(std::string method, unsigned version = 11, bool keep_alive = true) {
  Request request;
  request.method = std::move(method);
  request.version = version;
  request.keep_alive = keep_alive;
  return request;
}

TEST(Serialize, WritesStatusHeadersDateLengthAndBody) {
  Response response{.status = 200, .headers = {}, .body = "hello"};
  response.with("Content-Type", "text/plain").with("X-Frame-Options", "DENY");
  EXPECT_EQ(serialize(response, request_of("GET"), kNow),
            "HTTP/1.1 200 OK\r\n"
            "Content-Type: text/plain\r\n"
            "X-Frame-Options: DENY\r\n" +
                std::string(kDate) + "Content-Length: 5\r\n\r\nhello");
}

TEST(Serialize, LeavesOutTheBodyWhereThereMustBeNone) {
  struct Case {
    std::string_view name;
    std::string_view method;
    unsigned status;
    std::string_view expected;  ///< Behind the Date header.
  };
  constexpr Case kCases[] = {
      {"HEAD keeps the length", "HEAD", 200, "Content-Length: 5\r\n\r\n"},
      {"204", "GET", 204, "\r\n"},
      {"304", "GET", 304, "\r\n"},
      {"GET", "GET", 404, "Content-Length: 5\r\n\r\nhello"},
  };
  for (const auto& [name, method, status, expected] : kCases) {
    SCOPED_TRACE(name);
    const Response response{.status = status, .headers = {}, .body = "hello"};
    const auto text = serialize(response, request_of(std::string(method)), kNow);
    EXPECT_EQ(text.substr(text.find(kDate) + kDate.size()), expected);
  }
}

TEST(Serialize, SaysWhatHappensToTheConnection) {
  struct Case {
    std::string_view name;
    unsigned version;
    bool keep_alive;
    bool close;
    std::string_view status_line;
    std::string_view connection;
  };
  constexpr Case kCases[] = {
      {"1.1", 11, true, false, "HTTP/1.1 200 OK", ""},
      {"1.1, client closes", 11, false, false, "HTTP/1.1 200 OK", "Connection: close\r\n"},
      {"1.1, we close", 11, true, true, "HTTP/1.1 200 OK", "Connection: close\r\n"},
      {"1.0", 10, false, false, "HTTP/1.0 200 OK", ""},
      {"1.0, we close", 10, false, true, "HTTP/1.0 200 OK", "Connection: close\r\n"},
      {"1.0 kept", 10, true, false, "HTTP/1.0 200 OK", "Connection: keep-alive\r\n"},
      {"1.0 kept, we close", 10, true, true, "HTTP/1.0 200 OK", "Connection: close\r\n"},
  };
  for (const auto& [name, version, keep_alive, close, status_line, connection] : kCases) {
    SCOPED_TRACE(name);
    const Response response{.status = 200, .headers = {}, .body = "", .close = close};
    EXPECT_EQ(serialize(response, request_of("GET", version, keep_alive), kNow),
              std::string(status_line) + "\r\n" + std::string(kDate) + "Content-Length: 0\r\n" +
                  std::string(connection) + "\r\n");
  }
}

TEST(SerializeStreamHead, LeavesTheLengthOutAndSaysHowTheBodyComes) {
  Response response;
  response.with("Content-Type", "text/plain");
  Request request;
  request.method = "GET";
  const std::string chunked = serialize_stream_head(response, request, 0);
  EXPECT_TRUE(chunked.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n")) << chunked;
  EXPECT_TRUE(chunked.contains("\r\nTransfer-Encoding: chunked\r\n")) << chunked;
  EXPECT_FALSE(chunked.contains("Content-Length")) << chunked;
  EXPECT_FALSE(chunked.contains("Connection")) << chunked;
  EXPECT_TRUE(chunked.ends_with("\r\n\r\n")) << chunked;
  EXPECT_EQ(stream_piece("0123456789abcdef", request), "10\r\n0123456789abcdef\r\n");

  request.version = 10;
  const std::string plain = serialize_stream_head(response, request, 0);
  EXPECT_TRUE(plain.starts_with("HTTP/1.0 200 OK\r\n")) << plain;
  EXPECT_FALSE(plain.contains("Transfer-Encoding")) << plain;
  EXPECT_TRUE(plain.contains("\r\nConnection: close\r\n")) << plain;
  EXPECT_EQ(stream_piece("text", request), "text");
}

TEST(Serialize, LetsNoValueBeginAHeaderOfItsOwn) {
  Response response;
  response.with("Location", std::string("https://a\r\nSet-Cookie: b\n\0c", 27));
  const auto text = serialize(response, request_of("GET"), kNow);
  EXPECT_NE(text.find("Location: https://a  Set-Cookie: b  c\r\n"), std::string::npos) << text;
}

TEST(SerializeError, AlwaysCloses) {
  EXPECT_EQ(serialize_error(text_error(400, "Bad Request"), kNow),
            "HTTP/1.1 400 Bad Request\r\n"
            "Content-Type: text/plain; charset=utf-8\r\n"
            "X-Content-Type-Options: nosniff\r\n" +
                std::string(kDate) +
                "Content-Length: 12\r\n"
                "Connection: close\r\n\r\n"
                "Bad Request\n");
}

TEST(Serialize, WritesDatesOfAnyYear) {
  struct Case {
    std::int64_t unix_seconds;
    std::string_view expected;
  };
  constexpr Case kCases[] = {
      {0, "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"},
      {951782400, "Date: Tue, 29 Feb 2000 00:00:00 GMT\r\n"},
      {1798761599, "Date: Thu, 31 Dec 2026 23:59:59 GMT\r\n"},
      {4102444800, "Date: Fri, 01 Jan 2100 00:00:00 GMT\r\n"},
  };
  for (const auto& [unix_seconds, expected] : kCases) {
    const auto text = serialize({}, request_of("GET"), unix_seconds);
    EXPECT_NE(text.find(expected), std::string::npos) << text;
  }
}

TEST(UpgradeResponse, IsTheGoldenHead) {
  // docs/protocol.md, HTTP upgrade: no Date, nothing else.
  EXPECT_EQ(upgrade_response("7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13"),
            "HTTP/1.1 101 Switching Protocols\r\n"
            "Upgrade: DERP\r\n"
            "Connection: Upgrade\r\n"
            "Derp-Version: 2\r\n"
            "Derp-Public-Key: 7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13\r\n"
            "\r\n");
}

TEST(ReasonPhrase, KnowsWhatWeSend) {
  for (const unsigned status :
       {101U, 200U, 204U, 302U, 307U, 400U, 403U, 404U, 405U, 426U, 431U, 500U, 501U, 503U}) {
    EXPECT_NE(reason_phrase(status), "Unknown") << status;
  }
  EXPECT_EQ(reason_phrase(299), "Unknown");
}

TEST(EqualsIgnoringCase, FoldsAsciiLettersAlone) {
  EXPECT_TRUE(equals_ignoring_case("Upgrade", "uPGRADE"));
  EXPECT_FALSE(equals_ignoring_case("Upgrade", "Upgrad"));
  EXPECT_FALSE(equals_ignoring_case("[", "{"));
  EXPECT_TRUE(equals_ignoring_case("", ""));
}

}  // namespace
}  // namespace detour::http
