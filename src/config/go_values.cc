#include "config/go_values.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <limits>
#include <system_error>
#include <utility>

namespace detour::config {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

std::string to_lower(std::string_view text) {
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  return lower;
}

/// Takes a sign off the front. True when it was a minus.
bool take_sign(std::string_view& text) {
  if (text.empty() || (text[0] != '-' && text[0] != '+')) return false;
  const bool negative = text[0] == '-';
  text.remove_prefix(1);
  return negative;
}

/// Takes 0x, 0o, 0b or the leading zero of an octal number off the front of a lower-case literal.
int take_base(std::string_view& text) {
  if (text.size() < 2 || text[0] != '0') return 10;
  const char mark = text[1];
  const int base = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
  text.remove_prefix(base == 0 ? 1 : 2);
  return base == 0 ? 8 : base;
}

/// Takes underscores out; nullopt where Go does not allow them: they stand between digits, and a
/// base prefix in front of the text counts as one.
std::optional<std::string> without_underscores(std::string_view text, bool has_prefix,
                                               bool is_hex) {
  std::string plain;
  bool after_digit = has_prefix;
  bool after_underscore = false;
  for (const char c : text) {
    const bool digit = is_digit(c) || (is_hex && c >= 'a' && c <= 'f');
    if (c == '_' ? !after_digit : after_underscore && !digit) return std::nullopt;
    after_digit = digit;
    after_underscore = c == '_';
    if (c != '_') plain += c;
  }
  if (after_underscore || plain.empty()) return std::nullopt;
  return plain;
}

struct Unit {
  std::string_view name;
  std::uint64_t nanoseconds;
};
constexpr std::array<Unit, 8> kUnits = {{{"ns", 1},
                                         {"us", 1'000},
                                         {"\u00b5s", 1'000},  // Micro sign.
                                         {"\u03bcs", 1'000},  // Greek mu.
                                         {"ms", 1'000'000},
                                         {"s", 1'000'000'000},
                                         {"m", 60'000'000'000},
                                         {"h", 3'600'000'000'000}}};

/// The magnitude of the smallest duration; the largest is one less.
constexpr std::uint64_t kDurationLimit = std::uint64_t{1} << 63;

/// Takes `1.5h` off the front, in nanoseconds. Bits of a nanosecond are cut off, as Go does.
std::optional<std::uint64_t> take_duration_part(std::string_view& text) {
  std::uint64_t whole = 0;
  std::uint64_t fraction = 0;
  double scale = 1;
  bool any_digit = false;
  for (; !text.empty() && is_digit(text[0]); text.remove_prefix(1)) {
    any_digit = true;
    if (whole > kDurationLimit / 10) return std::nullopt;
    whole = whole * 10 + static_cast<std::uint64_t>(text[0] - '0');
    if (whole > kDurationLimit) return std::nullopt;
  }
  if (!text.empty() && text[0] == '.') {
    text.remove_prefix(1);
    for (; !text.empty() && is_digit(text[0]); text.remove_prefix(1)) {
      any_digit = true;
      if (fraction > (kDurationLimit - 1) / 10 - 1) continue;  // Beyond a nanosecond's worth.
      fraction = fraction * 10 + static_cast<std::uint64_t>(text[0] - '0');
      scale *= 10;
    }
  }
  if (!any_digit) return std::nullopt;

  const auto unit_end = std::ranges::find_if(text, [](char c) { return c == '.' || is_digit(c); });
  const std::string_view name(text.begin(), unit_end);
  text.remove_prefix(name.size());
  const auto unit = std::ranges::find(kUnits, name, &Unit::name);
  if (unit == kUnits.end() || whole > kDurationLimit / unit->nanoseconds) return std::nullopt;
  const std::uint64_t total =
      whole * unit->nanoseconds +
      static_cast<std::uint64_t>(static_cast<double>(fraction) *
                                 (static_cast<double>(unit->nanoseconds) / scale));
  if (total > kDurationLimit) return std::nullopt;
  return total;
}

/// `1.5` for 1500 thousandths.
std::string with_fraction(std::uint64_t value, std::uint64_t one) {
  std::string text = fmt::format("{}", value / one);
  if (value % one == 0) return text;
  std::string fraction = fmt::format("{}", one + value % one).substr(1);
  fraction.erase(fraction.find_last_not_of('0') + 1);
  return text + "." + fraction;
}

}  // namespace

std::optional<bool> parse_go_bool(std::string_view text) {
  constexpr std::array<std::string_view, 6> kTrue = {"1", "t", "T", "true", "TRUE", "True"};
  constexpr std::array<std::string_view, 6> kFalse = {"0", "f", "F", "false", "FALSE", "False"};
  if (std::ranges::find(kTrue, text) != kTrue.end()) return true;
  if (std::ranges::find(kFalse, text) != kFalse.end()) return false;
  return std::nullopt;
}

std::expected<std::int64_t, GoValueError> parse_go_int(std::string_view text) {
  const bool negative = take_sign(text);
  const std::string lower = to_lower(text);
  std::string_view digits = lower;
  const int base = take_base(digits);
  const auto plain = without_underscores(digits, /*has_prefix=*/base != 10, base == 16);
  if (!plain) return std::unexpected(GoValueError::kSyntax);

  std::uint64_t magnitude = 0;
  const char* const end = plain->data() + plain->size();
  const auto [stop, error] = std::from_chars(plain->data(), end, magnitude, base);
  if (stop != end || error == std::errc::invalid_argument)
    return std::unexpected(GoValueError::kSyntax);
  constexpr std::uint64_t kMax = std::numeric_limits<std::int64_t>::max();
  if (error != std::errc{} || magnitude > kMax + (negative ? 1U : 0U))
    return std::unexpected(GoValueError::kRange);
  return static_cast<std::int64_t>(negative ? 0 - magnitude : magnitude);
}

std::expected<double, GoValueError> parse_go_float(std::string_view text) {
  if (to_lower(text) == "nan") return std::numeric_limits<double>::quiet_NaN();
  const bool negative = take_sign(text);
  const std::string lower = to_lower(text);
  std::string_view digits = lower;

  const bool is_hex = digits.starts_with("0x");
  if (is_hex) digits.remove_prefix(2);
  if (is_hex && digits.find('p') == std::string_view::npos)
    return std::unexpected(GoValueError::kSyntax);
  const auto plain = without_underscores(digits, is_hex, is_hex);
  // from_chars would take a second minus, and NaN with a sign or in parentheses.
  if (!plain || plain->starts_with('-') || plain->starts_with("nan"))
    return std::unexpected(GoValueError::kSyntax);

  double value = 0;
  const char* const end = plain->data() + plain->size();
  const auto [stop, error] = std::from_chars(
      plain->data(), end, value, is_hex ? std::chars_format::hex : std::chars_format::general);
  if (stop != end || error == std::errc::invalid_argument)
    return std::unexpected(GoValueError::kSyntax);
  if (error == std::errc::result_out_of_range) {
    // Too small is zero for Go, and only too large an error; from_chars does not say which it was.
    value = std::strtod(((is_hex ? "0x" : "") + *plain).c_str(), nullptr);
    if (value > 1) return std::unexpected(GoValueError::kRange);
  }
  return negative ? -value : value;
}

std::expected<std::chrono::nanoseconds, GoValueError> parse_go_duration(std::string_view text) {
  const bool negative = take_sign(text);
  if (text == "0") return std::chrono::nanoseconds(0);
  if (text.empty()) return std::unexpected(GoValueError::kSyntax);

  std::uint64_t total = 0;
  while (!text.empty()) {
    const auto part = take_duration_part(text);
    if (!part) return std::unexpected(GoValueError::kSyntax);
    total += *part;  // Both are at most 2^63, so the sum cannot pass unnoticed.
    if (total > kDurationLimit) return std::unexpected(GoValueError::kSyntax);
  }
  if (total == kDurationLimit && !negative) return std::unexpected(GoValueError::kSyntax);
  return std::chrono::nanoseconds(static_cast<std::int64_t>(negative ? 0 - total : total));
}

std::string to_go_text(std::chrono::nanoseconds duration) {
  const auto count = static_cast<std::uint64_t>(duration.count());
  const bool negative = duration.count() < 0;
  const std::uint64_t rest = negative ? 0 - count : count;
  constexpr std::uint64_t kSecond = 1'000'000'000;
  std::string text = negative ? "-" : "";
  if (rest == 0) return "0s";
  if (rest < 1'000) return text + fmt::format("{}ns", rest);
  if (rest < 1'000'000) return text + with_fraction(rest, 1'000) + "\u00b5s";
  if (rest < kSecond) return text + with_fraction(rest, 1'000'000) + "ms";

  const std::uint64_t hours = rest / (3600 * kSecond);
  const std::uint64_t minutes = rest / (60 * kSecond) % 60;
  if (hours > 0) text += fmt::format("{}h", hours);
  if (hours > 0 || minutes > 0) text += fmt::format("{}m", minutes);
  return text + with_fraction(rest % (60 * kSecond), kSecond) + "s";
}

}  // namespace detour::config
