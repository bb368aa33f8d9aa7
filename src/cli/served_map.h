#pragma once

#include <expected>
#include <string>

#include "admin/map_page.h"
#include "config/config.h"

namespace detour::cli {

/// A token has at most this many bytes, from 1 on.
inline constexpr std::size_t kMapTokenMax = 256;

/// The page that --serve-map asks for; without it one that is off. The map follows the certificate
/// file within ten seconds, so that a new pin gets around by itself.
///
/// Fails with a message for the operator when the token cannot be used.
[[nodiscard]] std::expected<admin::MapPage, std::string> served_map(const config::Config& config);

}  // namespace detour::cli
