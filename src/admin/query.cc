#include "admin/query.h"

#include <algorithm>

namespace detour::admin {
namespace {

[[nodiscard]] int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/// Undoes the escapes of a query: `%41` and `+`. Nothing when an escape is malformed.
[[nodiscard]] std::optional<std::string> query_unescape(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      plain += text[i] == '+' ? ' ' : text[i];
      continue;
    }
    if (text.size() - i < 3) return std::nullopt;
    const int high = hex_digit(text[i + 1]);
    const int low = hex_digit(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    plain += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return plain;
}

}  // namespace

std::optional<std::string> query_value(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const std::size_t end = std::min(query.find('&'), query.size());
    const std::string_view pair = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));

    const std::size_t equals = std::min(pair.find('='), pair.size());
    const auto key = query_unescape(pair.substr(0, equals));
    if (!key || *key != name) continue;
    const auto value = query_unescape(pair.substr(std::min(equals + 1, pair.size())));
    if (value) return value;
  }
  return std::nullopt;
}

}  // namespace detour::admin
