// The only file that sees the HTTP parser of Boost.Beast.
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/bytes.h"
#include "http/message.h"

namespace detour::http {
namespace {

namespace beast = boost::beast;
using beast::error_code;
using beast::http::basic_parser;

/// Collects method, target, version and fields of one head. Lives for one call of parse_request.
class HeadParser final : public basic_parser<true> {
 public:
  HeadParser() {
    // The bound on the whole head is ours: this one applies to request line and fields apart.
    header_limit(kRequestHeadMax + 1);
    eager(false);
    skip(true);  // Ends with the head: bodies are the caller's.
  }

  [[nodiscard]] Request take() { return std::move(request_); }

 private:
  void on_request_impl(beast::http::verb /*method*/, beast::string_view method,
                       beast::string_view target, int version, error_code& /*ec*/) override {
    request_.method.assign(method.data(), method.size());
    request_.target.assign(target.data(), target.size());
    request_.version = static_cast<unsigned>(version);
  }
  void on_field_impl(beast::http::field /*name*/, beast::string_view name, beast::string_view value,
                     error_code& ec) override {
    if (request_.headers.size() == kRequestHeadersMax) {
      ec = beast::http::error::header_limit;
      return;
    }
    request_.headers.emplace_back(std::string(name), std::string(value));
  }
  void on_header_impl(error_code& /*ec*/) override { request_.keep_alive = keep_alive(); }

  // Responses, bodies and chunks never come here: the parser stops behind the head.
  void on_response_impl(int /*code*/, beast::string_view /*reason*/, int /*version*/,
                        error_code& /*ec*/) override {}
  void on_body_init_impl(const boost::optional<std::uint64_t>& /*content_length*/,
                         error_code& /*ec*/) override {}
  std::size_t on_body_impl(beast::string_view /*body*/, error_code& /*ec*/) override { return 0; }
  void on_chunk_header_impl(std::uint64_t /*size*/, beast::string_view /*extensions*/,
                            error_code& /*ec*/) override {}
  std::size_t on_chunk_body_impl(std::uint64_t /*remain*/, beast::string_view /*body*/,
                                 error_code& /*ec*/) override {
    return 0;
  }
  void on_finish_impl(error_code& /*ec*/) override {}

  Request request_;
};

[[nodiscard]] std::optional<std::uint8_t> hex_digit(char c) {
  if (c >= '0' && c <= '9') return static_cast<std::uint8_t>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<std::uint8_t>(c - 'a' + 10);
  if (c >= 'A' && c <= 'F') return static_cast<std::uint8_t>(c - 'A' + 10);
  return std::nullopt;
}

/// Undoes %-escapes; nothing when one is not followed by two hex digits. An escaped slash stays as
/// it is, since it is part of a name and no separator (as in Go's router).
[[nodiscard]] std::optional<std::string> percent_decode(std::string_view text) {
  std::string decoded;
  decoded.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    if (text.size() - i < 3) return std::nullopt;
    const auto high = hex_digit(text[i + 1]);
    const auto low = hex_digit(text[i + 2]);
    if (!high || !low) return std::nullopt;
    const auto c = static_cast<char>(*high << 4 | *low);
    if (c == '/') {
      decoded += text.substr(i, 3);
    } else {
      decoded += c;
    }
    i += 2;
  }
  return decoded;
}

/// Splits the target into path and query. Takes what RFC 9112 section 3.2 allows: "/path?query",
/// "http://host/path?query", "*" for OPTIONS, and any authority for CONNECT (no path then).
[[nodiscard]] bool split_target(Request& request) {
  if (request.method == "CONNECT") return true;

  std::string_view target = request.target;
  if (target == "*") {
    request.path = target;
    return request.method == "OPTIONS";
  }
  if (!target.starts_with('/')) {
    const std::size_t scheme_end = target.find("://");
    if (scheme_end == std::string_view::npos || scheme_end == 0) return false;
    const std::size_t path_begin = target.find_first_of("/?", scheme_end + 3);
    target = path_begin == std::string_view::npos ? std::string_view{} : target.substr(path_begin);
  }
  const std::size_t query_begin = target.find('?');
  if (query_begin != std::string_view::npos) request.query = target.substr(query_begin + 1);

  auto path = percent_decode(target.substr(0, query_begin));
  if (!path) return false;
  request.path = path->empty() ? "/" : std::move(*path);
  return true;
}

/// The characters that Go's server accepts in a Host header.
[[nodiscard]] bool is_host(std::string_view text) {
  return std::ranges::all_of(text, [](char c) {
    const bool alphanumeric =
        (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    return alphanumeric || std::string_view("!$%&'()*+,-.:;=@[]_~").contains(c);
  });
}

/// Exactly one Host with legal characters. HTTP/1.0 and CONNECT may leave it out.
[[nodiscard]] bool has_valid_host(const Request& request) {
  std::size_t count = 0;
  for (const auto& [name, value] : request.headers) {
    if (!equals_ignoring_case(name, "Host")) continue;
    ++count;
    if (!is_host(value)) return false;
  }
  const bool optional = request.version < 11 || request.method == "CONNECT";
  return count == 1 || (count == 0 && optional);
}

/// Stores how the body is framed. False for transfer codings other than chunked, chunked and sized
/// at once, contradictory or malformed sizes and those over kRequestBodyMax.
[[nodiscard]] bool read_body_framing(Request& request) {
  std::optional<std::string_view> stated;
  for (const auto& [name, value] : request.headers) {
    if (equals_ignoring_case(name, "Transfer-Encoding")) {
      if (request.chunked || !equals_ignoring_case(value, "chunked")) return false;
      request.chunked = true;
    }
    if (!equals_ignoring_case(name, "Content-Length")) continue;
    if (stated && *stated != value) return false;
    stated = value;
  }
  // HTTP/1.0 does not know chunks; both framings at once are an attempt at smuggling.
  if (request.chunked) return request.version == 11 && !stated;
  if (!stated) return true;
  if (stated->empty()) return false;

  std::uint64_t size = 0;
  for (const char c : *stated) {
    if (c < '0' || c > '9') return false;
    size = size * 10 + static_cast<std::uint64_t>(c - '0');
    if (size > kRequestBodyMax) return false;
  }
  request.body_size = size;
  return true;
}

}  // namespace

Result<std::optional<ParsedRequest>> parse_request(std::span<const std::uint8_t> bytes) {
  const auto considered = bytes.first(std::min(bytes.size(), kRequestHeadMax));

  HeadParser parser;
  error_code ec;
  const std::size_t head_size =
      parser.put(boost::asio::const_buffer(considered.data(), considered.size()), ec);
  if (ec == beast::http::error::need_more) {
    if (bytes.size() > kRequestHeadMax) return fail(ErrorCode::kHttpHeadTooLarge);
    return std::nullopt;
  }
  if (ec == beast::http::error::header_limit) return fail(ErrorCode::kHttpHeadTooLarge);
  if (ec) return fail(ErrorCode::kHttpMalformed);

  Request request = parser.take();
  const bool valid = split_target(request) && has_valid_host(request) && read_body_framing(request);
  if (!valid) return fail(ErrorCode::kHttpMalformed);
  return ParsedRequest{.request = std::move(request), .head_size = head_size};
}

}  // namespace detour::http
