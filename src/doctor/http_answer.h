#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace detour::doctor {

/// The head of an answer beyond this size is not read on.
inline constexpr std::size_t kAnswerHeadMax = 32 * 1024;
/// This much of a body is read; the rest does not matter here.
inline constexpr std::size_t kAnswerBodyMax = 64 * 1024;

/// The head of an HTTP/1.x answer, as tolerant as a browser is: it may come from anything.
struct HttpAnswer {
  unsigned status = 0;
  std::vector<std::pair<std::string, std::string>> headers = {};
  std::string body = {};
  std::size_t head_size = 0;

  /// The first header of this name, in any case; empty when absent.
  [[nodiscard]] std::string_view header(std::string_view name) const;
};

/// Reads an answer's head from the front of `bytes`. Nullopt until the empty line behind it came;
/// a status of 0 when the bytes are no HTTP.
[[nodiscard]] std::optional<HttpAnswer> parse_answer_head(std::string_view bytes);

/// Seconds since 1970 in an HTTP Date header (RFC 9110 section 5.6.7, the form with GMT).
[[nodiscard]] std::optional<std::int64_t> parse_http_date(std::string_view text);

}  // namespace detour::doctor
