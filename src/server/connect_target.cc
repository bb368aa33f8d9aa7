#include "server/connect_target.h"

#include <algorithm>

namespace detour::server {

namespace {

constexpr std::string_view kDomain = ".tailscale.com";
constexpr std::string_view kRelays = "derp";
constexpr std::size_t kHostSizeMax = 253;

bool is_dns_name(std::string_view host) {
  return host.size() <= kHostSizeMax && std::ranges::all_of(host, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '-' || c == '.' || c == '_';
         });
}

}  // namespace

std::expected<ConnectTarget, std::string_view> parse_connect_target(std::string_view target) {
  const std::size_t colon = target.rfind(':');
  if (colon == std::string_view::npos) return std::unexpected("it is not host:port");
  const std::string_view host = target.substr(0, colon);
  const std::string_view port = target.substr(colon + 1);
  if (port != "443" && port != "80")
    return std::unexpected("only the ports 443 and 80 are allowed");
  if (!is_dns_name(host)) return std::unexpected("the host is no DNS name");
  if (!host.ends_with(kDomain) || host.contains(kRelays))
    return std::unexpected("only hosts of tailscale.com that are no DERP servers are allowed");
  return ConnectTarget{.host = std::string(host),
                       .port = static_cast<std::uint16_t>(port == "443" ? 443 : 80)};
}

}  // namespace detour::server
