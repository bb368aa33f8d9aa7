#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "doctor/report.h"

namespace detour::doctor {

/// The proxies that an environment names, as "HTTPS_PROXY=http://***@HOST:PORT": without users and
/// passwords, since reports are shown to others. `variable` gives a variable's value, or nothing.
[[nodiscard]] std::vector<std::string> proxies_in(
    const std::function<std::string(std::string_view)>& variable);

/// Says when this machine reaches HTTPS servers by a proxy (D32): the checks do not go through it,
/// but a Tailscale client with the same environment does.
void check_proxies_here(Report& report);

}  // namespace detour::doctor
