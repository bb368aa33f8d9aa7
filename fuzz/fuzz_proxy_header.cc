// The PROXY header of either version. Input: what a proxy sent.

#include <span>
#include <string>

#include "base/check.h"
#include "input.h"
#include "net/proxy_header.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace detour;
  const std::span<const std::uint8_t> input(data, size);
  const auto parsed = net::parse_proxy_header(input);
  if (!parsed) return 0;
  if (!*parsed) {
    DETOUR_CHECK(size < net::kProxyHeaderMax);
    return 0;
  }
  const auto& header = **parsed;
  DETOUR_CHECK(header.size <= size && header.size <= net::kProxyHeaderMax && header.size > 0);
  DETOUR_CHECK(net::looks_like_proxy_header(input));
  if (header.source) DETOUR_CHECK(!header.source->ip_text().empty());
  // The header alone is the same, and no part of it is one or is refused.
  const auto alone = net::parse_proxy_header(input.first(header.size));
  DETOUR_CHECK(alone && *alone && (*alone)->size == header.size);
  for (std::size_t cut = 0; cut < header.size; ++cut) {
    const auto part = net::parse_proxy_header(input.first(cut));
    DETOUR_CHECK(part && !*part);
  }
  return 0;
}
