#pragma once

#include <optional>
#include <string>
#include <vector>

#include "admin/debug_access.h"
#include "http/message.h"

namespace detour::admin {

/// The client of a request that came from a trusted proxy, out of X-Forwarded-For: from its end,
/// the first address that is no trusted proxy itself, since each proxy appends the one it was
/// called by and whatever stands before was written by somebody else. Ports are left out.
///
/// Nothing without the header. An entry that is no address ends the search: what is behind it
/// counts.
[[nodiscard]] std::optional<std::string> forwarded_client(const http::Request& request,
                                                          const std::vector<IpPrefix>& trusted);

}  // namespace detour::admin
