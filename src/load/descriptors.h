#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace detour::load {

/// Raises the limit of open files of this process as far as it may. What is wrong, and what mends
/// it, when `connections` do not fit below it.
[[nodiscard]] std::optional<std::string> make_room_for(std::uint64_t connections);

}  // namespace detour::load
