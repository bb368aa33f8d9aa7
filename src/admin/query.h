#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace detour::admin {

/// The first value of `name` in a query string, its escapes undone. Nothing without one; a pair
/// with a broken escape does not count.
[[nodiscard]] std::optional<std::string> query_value(std::string_view query, std::string_view name);

/// All values of `name`, in their order.
[[nodiscard]] std::vector<std::string> query_values(std::string_view query, std::string_view name);

/// `text` as a value in a query string: what is not a letter, a digit or one of -_.~ is escaped.
[[nodiscard]] std::string query_escape(std::string_view text);

}  // namespace detour::admin
