#pragma once

#include "admin/status.h"
#include "http/message.h"

/// /debug/clients/, as derper has it (docs/operations.md). Values in, values out.
namespace detour::admin {

/// The answer of /debug/clients/: an index, or one page of the clients that match the query, as
/// HTML or as JSON.
[[nodiscard]] http::Response answer_clients(const http::Request& request,
                                            const RelayStatus& status);

}  // namespace detour::admin
