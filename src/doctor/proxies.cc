#include "doctor/proxies.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/variable.h"

namespace detour::doctor {

namespace {

std::string without_password(std::string_view url) {
  const auto begin = url.find("://") == std::string_view::npos ? 0 : url.find("://") + 3;
  const auto at = url.rfind('@');
  if (at == std::string_view::npos || at < begin) return std::string(url);
  return fmt::format("{}***{}", url.substr(0, begin), url.substr(at));
}

}  // namespace

std::vector<std::string> proxies_in(const std::function<std::string(std::string_view)>& variable) {
  std::vector<std::string> set;
  for (const std::string_view name :
       {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"}) {
    if (const auto value = variable(name); !value.empty())
      set.push_back(fmt::format("{}={}", name, without_password(value)));
  }
  return set;
}

void check_proxies_here(Report& report) {
  const auto set =
      proxies_in([](std::string_view name) { return variable({std::string(name).c_str()}); });
  if (set.empty()) return;
  report.add(
      State::kInfo, "D32", "client-proxy",
      fmt::format("this environment has {}: Tailscale goes to relays by that proxy where it has "
                  "the same, and these checks did not",
                  fmt::join(set, ", ")),
      "If nodes like this one fail and others do not: add the relay's host name to NO_PROXY of "
      "the tailscaled service, or a rule to the proxy that passes it on.");
}

}  // namespace detour::doctor
