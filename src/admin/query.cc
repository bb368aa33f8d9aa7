#include "admin/query.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

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

/// Takes the first pair off the front of `query`. Its value when it is one of `name`.
[[nodiscard]] std::optional<std::string> next_value(std::string_view& query,
                                                    std::string_view name) {
  const std::size_t end = std::min(query.find('&'), query.size());
  const std::string_view pair = query.substr(0, end);
  query.remove_prefix(std::min(end + 1, query.size()));

  const std::size_t equals = std::min(pair.find('='), pair.size());
  const auto key = query_unescape(pair.substr(0, equals));
  if (!key || *key != name) return std::nullopt;
  return query_unescape(pair.substr(std::min(equals + 1, pair.size())));
}

}  // namespace

std::optional<std::string> query_value(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    if (auto value = next_value(query, name)) return value;
  }
  return std::nullopt;
}

std::vector<std::string> query_values(std::string_view query, std::string_view name) {
  std::vector<std::string> values;
  while (!query.empty()) {
    if (auto value = next_value(query, name)) values.push_back(std::move(*value));
  }
  return values;
}

std::string query_escape(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                          (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == '~';
    if (is_plain) {
      escaped += c;
    } else if (c == ' ') {
      escaped += '+';
    } else {
      escaped += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return escaped;
}

}  // namespace detour::admin
