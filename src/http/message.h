#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

/// HTTP/1.x request heads in, responses out. No I/O: the caller owns the bytes and the connection.
namespace detour::http {

/// A request head beyond this size is refused.
inline constexpr std::size_t kRequestHeadMax = 16 * 1024;
/// More header fields than this are refused: beyond what browsers and proxies send.
inline constexpr std::size_t kRequestHeadersMax = 128;
/// A request body is read and thrown away up to this size, so that the connection can be kept.
inline constexpr std::size_t kRequestBodyMax = 64 * 1024;

/// Whether two names are equal but for the case of ASCII letters.
[[nodiscard]] bool equals_ignoring_case(std::string_view a, std::string_view b);

/// A request head. Owns its texts.
struct Request {
  std::string method;
  std::string target;     ///< As sent: "/generate_204?t=1".
  std::string path;       ///< Target up to '?', percent-decoded but for %2F: "/generate_204".
  std::string query;      ///< Behind '?', undecoded.
  unsigned version = 11;  ///< 10 or 11.
  std::vector<std::pair<std::string, std::string>> headers;  ///< In order, as sent.
  bool keep_alive = true;
  std::uint64_t body_size = 0;  ///< From Content-Length; the body follows the head.
  bool chunked = false;         ///< A chunked body follows the head (body.h finds its end).

  /// The first header of this name, in any case; empty when absent.
  [[nodiscard]] std::string_view header(std::string_view name) const;
  [[nodiscard]] bool has_header(std::string_view name) const;
};

struct ParsedRequest {
  Request request;
  std::size_t head_size;  ///< Bytes consumed, up to and with the empty line. The rest is kept.
};

/// Reads one request head from the front of `bytes`.
///
/// Gives nullopt until the whole head is there; the caller reads more and calls again with all of
/// it. Fails with kHttpHeadTooLarge once more than kRequestHeadMax bytes came without an end or
/// more than kRequestHeadersMax fields came, and with kHttpMalformed (also for transfer codings
/// other than chunked, and for bodies over kRequestBodyMax, which no endpoint takes). As Go's
/// server does, asks for one Host header and takes targets in absolute form.
[[nodiscard]] Result<std::optional<ParsedRequest>> parse_request(
    std::span<const std::uint8_t> bytes);

/// A response. `body` is sent with Content-Length, except where the status forbids one.
struct Response {
  unsigned status = 200;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  bool close = false;  ///< End the connection after it.

  Response& with(std::string name, std::string value) {
    headers.emplace_back(std::move(name), std::move(value));
    return *this;
  }
};

/// Plain-text error as Go's http.Error sends it: text/plain; charset=utf-8, nosniff, body +
/// newline.
[[nodiscard]] Response text_error(unsigned status, std::string_view message);

/// Serialises `response` as the answer to `request`: status line, Date, headers, Content-Length,
/// Connection, body (none for HEAD, 1xx, 204 and 304). `unix_seconds` is for the Date header.
[[nodiscard]] std::string serialize(const Response& response, const Request& request,
                                    std::int64_t unix_seconds);
/// The head of a response whose body comes in pieces, each made by stream_piece(). Chunked, or for
/// HTTP/1.0 up to the end of the connection.
[[nodiscard]] std::string serialize_stream_head(const Response& response, const Request& request,
                                                std::int64_t unix_seconds);
/// One piece of that body; `text` is not empty.
[[nodiscard]] std::string stream_piece(std::string_view text, const Request& request);
/// The same where no request could be read (400, 431); always closes.
[[nodiscard]] std::string serialize_error(const Response& response, std::int64_t unix_seconds);

[[nodiscard]] std::string_view reason_phrase(unsigned status);

/// The head that hands the connection over to DERP: 101 with Upgrade, Connection, Derp-Version and
/// Derp-Public-Key, nothing else. `relay_key_hex` is 64 lower-case hex digits.
[[nodiscard]] std::string upgrade_response(std::string_view relay_key_hex);

}  // namespace detour::http
