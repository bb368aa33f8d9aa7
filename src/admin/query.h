#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace detour::admin {

/// The first value of `name` in a query string, its escapes undone. Nothing without one; a pair
/// with a broken escape does not count.
[[nodiscard]] std::optional<std::string> query_value(std::string_view query, std::string_view name);

}  // namespace detour::admin
