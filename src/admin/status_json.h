#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstddef>
#include <string>
#include <vector>

#include "admin/status.h"

/// The JSON that the control socket and the status page have in common. For admin/ alone.
namespace detour::admin {

/// What format_status_json() writes, with these clients and the first `pairs_max` pairs.
[[nodiscard]] nlohmann::ordered_json status_object(const RelayStatus& status,
                                                   const std::vector<const ClientStatus*>& clients,
                                                   std::size_t pairs_max);

/// On one line, newline at the end. Bytes that are no UTF-8 (names and reasons come from outside)
/// are replaced.
[[nodiscard]] std::string json_text(const nlohmann::ordered_json& object);

}  // namespace detour::admin
