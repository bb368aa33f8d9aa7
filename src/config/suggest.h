#pragma once

#include <optional>
#include <span>
#include <string_view>

namespace detour::config {

/// The word that was probably meant: the nearest of `known` within a third of its length in typing
/// errors (letter missing, too many, wrong, or two swapped; dashes do not count), or nullopt.
[[nodiscard]] std::optional<std::string_view> suggest(std::string_view word,
                                                      std::span<const std::string_view> known);

}  // namespace detour::config
