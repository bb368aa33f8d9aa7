#include "http/message.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <iterator>

namespace detour::http {
namespace {

[[nodiscard]] constexpr char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

/// Statuses that have no body and so no Content-Length (RFC 9110 section 6.4.1).
[[nodiscard]] bool forbids_body(unsigned status) {
  return status < 200 || status == 204 || status == 304;
}

/// Appends a header line. Line breaks in a value become spaces, so that no text from outside can
/// begin a header of its own.
void append_header(std::string& out, std::string_view name, std::string_view value) {
  out += name;
  out += ": ";
  std::ranges::transform(value, std::back_inserter(out),
                         [](char c) { return c == '\r' || c == '\n' || c == '\0' ? ' ' : c; });
  out += "\r\n";
}

/// The date form of RFC 9110 section 5.6.7: "Sun, 06 Nov 1994 08:49:37 GMT".
[[nodiscard]] std::string format_date(std::int64_t unix_seconds) {
  using std::chrono::days;
  using std::chrono::floor;
  static constexpr std::array kDays = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr std::array kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

  const std::chrono::sys_seconds time{std::chrono::seconds(unix_seconds)};
  const auto day = floor<days>(time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(time - day);
  return fmt::format("{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
                     kDays[std::chrono::weekday(day).c_encoding()], unsigned{date.day()},
                     kMonths[unsigned{date.month()} - 1], int{date.year()}, clock.hours().count(),
                     clock.minutes().count(), clock.seconds().count());
}

/// How the connection is spoken of behind the response.
enum class ConnectionHeader : std::uint8_t { kNone, kKeepAlive, kClose };

struct ResponseForm {
  std::string_view version = "HTTP/1.1";
  ConnectionHeader connection = ConnectionHeader::kClose;
  bool head_only = false;
  bool is_stream = false;  ///< Without the length of the body, which is not known yet.
};

[[nodiscard]] std::string write_response(const Response& response, std::int64_t unix_seconds,
                                         const ResponseForm& form) {
  std::string out =
      fmt::format("{} {} {}\r\n", form.version, response.status, reason_phrase(response.status));
  for (const auto& [name, value] : response.headers) append_header(out, name, value);
  append_header(out, "Date", format_date(unix_seconds));
  const bool has_body = !forbids_body(response.status);
  // Go's server does not know the length of what a handler did not write because of HEAD.
  const bool has_length = has_body && !form.is_stream && !(form.head_only && response.body.empty());
  if (has_length) append_header(out, "Content-Length", fmt::format_int(response.body.size()).str());
  if (form.connection == ConnectionHeader::kClose) append_header(out, "Connection", "close");
  if (form.connection == ConnectionHeader::kKeepAlive) {
    append_header(out, "Connection", "keep-alive");
  }
  out += "\r\n";
  if (has_body && !form.head_only) out += response.body;
  return out;
}

}  // namespace

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, {}, lower, lower);
}

std::string_view Request::header(std::string_view name) const {
  for (const auto& [own_name, value] : headers) {
    if (equals_ignoring_case(own_name, name)) return value;
  }
  return {};
}

bool Request::has_header(std::string_view name) const {
  return std::ranges::any_of(
      headers, [name](const auto& field) { return equals_ignoring_case(field.first, name); });
}

Response text_error(unsigned status, std::string_view message) {
  Response response{.status = status, .headers = {}, .body = std::string(message) + "\n"};
  return response.with("Content-Type", "text/plain; charset=utf-8")
      .with("X-Content-Type-Options", "nosniff");
}

std::string serialize(const Response& response, const Request& request, std::int64_t unix_seconds) {
  const bool is_http10 = request.version < 11;
  auto connection = ConnectionHeader::kNone;
  // That a connection of HTTP/1.0 ends goes without saying.
  if (response.close || (!request.keep_alive && !is_http10)) {
    connection = ConnectionHeader::kClose;
  } else if (is_http10 && request.keep_alive) {
    // A client of HTTP/1.0 that asked to keep the connection has to be told that it may.
    connection = ConnectionHeader::kKeepAlive;
  }
  return write_response(response, unix_seconds,
                        {.version = is_http10 ? "HTTP/1.0" : "HTTP/1.1",
                         .connection = connection,
                         .head_only = request.method == "HEAD"});
}

std::string serialize_stream_head(const Response& response, const Request& request,
                                  std::int64_t unix_seconds) {
  const bool is_http10 = request.version < 11;
  Response head = response;
  if (!is_http10) head.with("Transfer-Encoding", "chunked");
  return write_response(head, unix_seconds,
                        {.version = is_http10 ? "HTTP/1.0" : "HTTP/1.1",
                         .connection = is_http10 || !request.keep_alive ? ConnectionHeader::kClose
                                                                        : ConnectionHeader::kNone,
                         .head_only = true,
                         .is_stream = true});
}

std::string stream_piece(std::string_view text, const Request& request) {
  if (request.version < 11) return std::string(text);
  return fmt::format("{:x}\r\n{}\r\n", text.size(), text);
}

std::string serialize_error(const Response& response, std::int64_t unix_seconds) {
  return write_response(response, unix_seconds, {});
}

std::string_view reason_phrase(unsigned status) {
  switch (status) {
    case 101:
      return "Switching Protocols";
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 301:
      return "Moved Permanently";
    case 302:
      return "Found";
    case 304:
      return "Not Modified";
    case 307:
      return "Temporary Redirect";
    case 308:
      return "Permanent Redirect";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 411:
      return "Length Required";
    case 413:
      return "Request Entity Too Large";
    case 426:
      return "Upgrade Required";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Unknown";
  }
}

std::string upgrade_response(std::string_view relay_key_hex) {
  return fmt::format(
      "HTTP/1.1 101 Switching Protocols\r\n"
      "Upgrade: DERP\r\n"
      "Connection: Upgrade\r\n"
      "Derp-Version: 2\r\n"
      "Derp-Public-Key: {}\r\n"
      "\r\n",
      relay_key_hex);
}

}  // namespace detour::http
