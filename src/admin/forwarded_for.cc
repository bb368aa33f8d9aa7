#include "admin/forwarded_for.h"

#include <algorithm>
#include <ranges>
#include <string_view>

namespace detour::admin {
namespace {

[[nodiscard]] std::string_view trim(std::string_view text) {
  constexpr std::string_view kBlank = " \t";
  const std::size_t begin = text.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) - begin + 1);
}

/// "192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:80": the address.
[[nodiscard]] std::string_view without_port(std::string_view text) {
  if (text.starts_with('[')) return text.substr(1, std::min(text.find(']'), text.size()) - 1);
  const bool one_colon = std::ranges::count(text, ':') == 1;
  return one_colon ? text.substr(0, text.find(':')) : text;
}

}  // namespace

std::optional<std::string> forwarded_client(const http::Request& request,
                                            const std::vector<IpPrefix>& trusted) {
  std::optional<std::string> client;
  for (const auto& [name, value] : std::views::reverse(request.headers)) {
    if (!http::equals_ignoring_case(name, "X-Forwarded-For")) continue;
    for (std::string_view rest = value;;) {
      const std::size_t comma = rest.rfind(',');
      const std::size_t begin = comma == std::string_view::npos ? 0 : comma + 1;
      const std::string_view entry = without_port(trim(rest.substr(begin)));
      const auto ip = parse_ip(entry);
      if (!ip) return client;
      client = std::string(entry);
      if (std::ranges::none_of(trusted, [&](const IpPrefix& p) { return p.contains(*ip); })) {
        return client;
      }
      if (begin == 0) break;
      rest = rest.substr(0, comma);
    }
  }
  return client;
}

}  // namespace detour::admin
