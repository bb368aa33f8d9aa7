#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

/// Values as Go's `flag` package writes and reads them.
namespace detour::config {

enum class GoValueError : std::uint8_t { kSyntax, kRange };

/// `1 t T true TRUE True` and their opposites (strconv.ParseBool).
[[nodiscard]] std::optional<bool> parse_go_bool(std::string_view text);

/// A 64-bit integer literal of Go: decimal, 0x, 0o, 0b, a leading 0 for octal, underscores between
/// digits (strconv.ParseInt with base 0).
[[nodiscard]] std::expected<std::int64_t, GoValueError> parse_go_int(std::string_view text);

/// A decimal or hexadecimal floating-point number, `Inf` and `NaN` in any case
/// (strconv.ParseFloat).
[[nodiscard]] std::expected<double, GoValueError> parse_go_float(std::string_view text);

/// `15s`, `1h30m`, `-1.5h`, `300ms`, `0` (time.ParseDuration).
[[nodiscard]] std::expected<std::chrono::nanoseconds, GoValueError> parse_go_duration(
    std::string_view text);

/// `1h30m0s`, `2s`, `1.5ms`, `0s` (Duration.String).
[[nodiscard]] std::string to_go_text(std::chrono::nanoseconds duration);

}  // namespace detour::config
