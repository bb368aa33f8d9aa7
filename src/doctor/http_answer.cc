#include "doctor/http_answer.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <ctime>

#include "http/message.h"

namespace detour::doctor {
namespace {

constexpr std::size_t kStatusLineMin = std::string_view("HTTP/1.1 200").size();

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

unsigned parse_status(std::string_view line) {
  if (line.size() < kStatusLineMin || !line.starts_with("HTTP/1.")) return 0;
  const auto digits = line.substr(9, 3);
  unsigned status = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), status);
  return error == std::errc{} && end == digits.data() + digits.size() ? status : 0;
}

}  // namespace

std::string_view HttpAnswer::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (http::equals_ignoring_case(key, name)) return value;
  }
  return {};
}

std::optional<HttpAnswer> parse_answer_head(std::string_view bytes) {
  constexpr std::string_view kHttp = "HTTP/1.";
  const auto begin = bytes.substr(0, kHttp.size());
  if (!kHttp.starts_with(begin)) return HttpAnswer{};
  const auto end = bytes.find("\r\n\r\n");
  if (end == std::string_view::npos)
    return bytes.size() > kAnswerHeadMax ? std::optional(HttpAnswer{}) : std::nullopt;

  HttpAnswer answer;
  answer.head_size = end + 4;
  auto rest = bytes.substr(0, end);
  const auto first_end = std::min(rest.find("\r\n"), rest.size());
  answer.status = parse_status(rest.substr(0, first_end));
  rest.remove_prefix(first_end);
  while (rest.size() > 2) {
    rest.remove_prefix(2);
    const auto line_end = std::min(rest.find("\r\n"), rest.size());
    const auto line = rest.substr(0, line_end);
    rest.remove_prefix(line_end);
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    answer.headers.emplace_back(trim(line.substr(0, colon)), trim(line.substr(colon + 1)));
  }
  return answer;
}

std::optional<std::int64_t> parse_http_date(std::string_view text) {
  const std::string copy(text);
  tm parts{};
  const char* end = strptime(copy.c_str(), "%a, %d %b %Y %H:%M:%S", &parts);
  if (end == nullptr || trim(end) != "GMT") return std::nullopt;
  return timegm(&parts);
}

}  // namespace detour::doctor
