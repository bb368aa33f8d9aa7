#include "http/body.h"

#include <gtest/gtest.h>

#include <string>

#include "base/bytes.h"

namespace detour::http {
namespace {

// As a client would send it, with an extension, a trailer and digits of both cases.
constexpr std::string_view kChunked =
    "5\r\nhello\r\n"
    "C;name=value\r\n hello world\r\n"
    "00a \r\n0123456789\r\n"
    "0\r\n"
    "Trailer: x\r\n"
    "\r\n";

Request chunked() {
  const auto parsed =
      parse_request(as_bytes("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"));
  EXPECT_TRUE(parsed && *parsed);
  return (*parsed)->request;
}

Request sized(std::uint64_t size) {
  Request request;
  request.body_size = size;
  return request;
}

TEST(BodySkipper, IsDoneAtOnceWithoutABody) {
  BodySkipper none;
  EXPECT_TRUE(none.done());
  EXPECT_EQ(none.skip(as_bytes("GET / HTTP/1.1\r\n")), 0U);
  EXPECT_TRUE(BodySkipper(sized(0)).done());
}

TEST(BodySkipper, PassesASizedBodyAtEverySplitPoint) {
  const std::string bytes = "helloGET /";
  for (std::size_t split = 0; split <= bytes.size(); ++split) {
    BodySkipper body(sized(5));
    const auto first = body.skip(as_bytes(bytes.substr(0, split)));
    const auto second = body.skip(as_bytes(bytes.substr(split)));
    ASSERT_TRUE(first && second);
    EXPECT_EQ(*first + *second, 5U);
    EXPECT_TRUE(body.done());
  }
}

TEST(BodySkipper, PassesAChunkedBodyAtEverySplitPoint) {
  const std::string body_text(kChunked);
  const std::string bytes = body_text + "GET / HTTP/1.1\r\n";
  for (std::size_t split = 0; split <= bytes.size(); ++split) {
    BodySkipper body(chunked());
    const auto first = body.skip(as_bytes(bytes.substr(0, split)));
    ASSERT_TRUE(first.has_value()) << split;
    EXPECT_EQ(body.done(), split >= body_text.size());
    const auto second = body.skip(as_bytes(bytes.substr(split)));
    ASSERT_TRUE(second.has_value()) << split;
    EXPECT_EQ(*first + *second, body_text.size());
    EXPECT_TRUE(body.done());
  }
}

TEST(BodySkipper, RefusesBrokenChunks) {
  struct Case {
    std::string_view name;
    std::string body;
  };
  const Case kCases[] = {
      {"data shorter", "6\r\nhello\r\n"},
      {"no size", "\r\n"},
      {"extension without size", ";x\r\n"},
      {"sign", "+5\r\nhello\r\n"},
      {"prefix", "0x5\r\nhello\r\n"},
      {"bare line feed", "5\nhello\r\n"},
      {"bare line feed behind an extension", "5;x\nhello\r\n"},
      {"bare carriage return", "5\rhello\r\n"},
      {"data longer", "5\r\nhelloo\r\n"},
      {"no line feed behind the data", "5\r\nhello\rx"},
      {"bare line feed at the end", "0\r\n\n"},
      {"bare line feed in a trailer", "0\r\na: b\n\r\n"},
      {"return without line feed in a trailer", "0\r\na: b\rx"},
      {"return without line feed at the end", "0\r\n\rx"},
      {"size beyond 64 bits", "10000000000000005\r\nhello\r\n"},
  };
  for (const auto& [name, body_text] : kCases) {
    SCOPED_TRACE(name);
    BodySkipper body(chunked());
    const auto skipped = body.skip(as_bytes(body_text));
    ASSERT_FALSE(skipped.has_value());
    EXPECT_EQ(skipped.error().code, ErrorCode::kHttpMalformed);
  }
}

TEST(BodySkipper, HoldsAChunkedBodyWithItsFramingToTheLimit) {
  constexpr std::string_view kEnd = "0\r\n\r\n";
  const auto body_of = [&](std::size_t size) {
    // One chunk of what is left when its framing is taken off, written with five digits.
    const std::size_t data = size - kEnd.size() - std::string_view("00000\r\n\r\n").size();
    std::string digits(5, '0');
    for (std::size_t i = 5, rest = data; i-- > 0; rest /= 16) {
      digits[i] = "0123456789abcdef"[rest % 16];
    }
    return digits + "\r\n" + std::string(data, 'x') + "\r\n" + std::string(kEnd);
  };
  BodySkipper at_limit(chunked());
  EXPECT_EQ(at_limit.skip(as_bytes(body_of(kRequestBodyMax))), kRequestBodyMax);
  EXPECT_TRUE(at_limit.done());
  BodySkipper above(chunked());
  EXPECT_FALSE(above.skip(as_bytes(body_of(kRequestBodyMax + 1))).has_value());

  // Framing that never ends is held to it too.
  for (const std::string start : {"0\r\n", "0;", "1\r\nx\r\n0\r\na"}) {
    BodySkipper endless(chunked());
    EXPECT_FALSE(endless.skip(as_bytes(start + std::string(kRequestBodyMax, 'y'))).has_value());
  }
  BodySkipper zeros(chunked());
  EXPECT_FALSE(zeros.skip(as_bytes(std::string(kRequestBodyMax + 1, '0'))).has_value());
}

}  // namespace
}  // namespace detour::http
