// An HTTP request head, whole and split. Input: 2 bytes where to split, then what a client sent.

#include <algorithm>
#include <optional>
#include <span>

#include "base/check.h"
#include "http/message.h"
#include "input.h"

namespace {

using namespace detour;
using Bytes = std::span<const std::uint8_t>;

bool same(const http::Request& a, const http::Request& b) {
  return a.method == b.method && a.target == b.target && a.path == b.path && a.query == b.query &&
         a.version == b.version && a.headers == b.headers && a.keep_alive == b.keep_alive &&
         a.body_size == b.body_size;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes input(data, size);
  const std::size_t split = static_cast<std::size_t>(fuzz::take_byte(input)) << 8;
  const std::size_t split_at = split | fuzz::take_byte(input);

  const auto parsed = http::parse_request(input);
  if (!parsed) {
    // Once refused, more bytes change nothing.
    return 0;
  }
  if (!*parsed) {
    DETOUR_CHECK(input.size() <= http::kRequestHeadMax);
    return 0;
  }
  const auto& [request, head_size] = **parsed;
  DETOUR_CHECK(head_size <= input.size() && head_size <= http::kRequestHeadMax);
  DETOUR_CHECK(request.headers.size() <= http::kRequestHeadersMax);
  DETOUR_CHECK(request.body_size <= http::kRequestBodyMax);

  // The head alone is the same request, and no part of it is one or is refused.
  const auto alone = http::parse_request(input.first(head_size));
  DETOUR_CHECK(alone && *alone && (*alone)->head_size == head_size);
  DETOUR_CHECK(same((*alone)->request, request));
  const auto part = http::parse_request(input.first(split_at % head_size));
  DETOUR_CHECK(part && !*part);

  // Whatever came in, what goes out is one head.
  http::Response response = http::text_error(404, request.path);
  response.with("X-Echo", request.target).with("X-Host", std::string(request.header("Host")));
  const std::string text = http::serialize(response, request, /*unix_seconds=*/0);
  const std::size_t end = text.find("\r\n\r\n");
  DETOUR_CHECK(end != std::string::npos);
  const std::size_t body_size = request.method == "HEAD" ? 0 : response.body.size();
  DETOUR_CHECK(end + 4 + body_size == text.size());
  return 0;
}
