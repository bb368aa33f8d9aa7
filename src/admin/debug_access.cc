#include "admin/debug_access.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

#include "admin/constant_time.h"
#include "admin/query.h"

namespace detour::admin {
namespace {

constexpr unsigned kIpBits = 128;
constexpr unsigned kIpv4Bits = 32;
/// Bits of ::ffff:0:0, in front of an IPv4 address.
constexpr unsigned kMappedBits = kIpBits - kIpv4Bits;

[[nodiscard]] constexpr IpBytes ipv4(std::uint8_t a, std::uint8_t b, std::uint8_t c,
                                     std::uint8_t d) {
  return {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d};
}

constexpr IpPrefix kLoopbackIpv4 = {.base = ipv4(127, 0, 0, 0), .bits = kMappedBits + 8};
constexpr IpPrefix kLoopbackIpv6 = {.base = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1},
                                    .bits = kIpBits};
// Tailscale hands out the shared address space of RFC 6598, but for a part that ChromeOS uses
// inside the machine, and a range of unique local IPv6 addresses.
constexpr IpPrefix kTailscaleIpv4 = {.base = ipv4(100, 64, 0, 0), .bits = kMappedBits + 10};
constexpr IpPrefix kChromeOs = {.base = ipv4(100, 115, 92, 0), .bits = kMappedBits + 23};
constexpr IpPrefix kTailscaleIpv6 = {.base = {0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0}, .bits = 48};

[[nodiscard]] bool is_tailscale(const IpBytes& ip) {
  return (kTailscaleIpv4.contains(ip) && !kChromeOs.contains(ip)) || kTailscaleIpv6.contains(ip);
}

}  // namespace

bool is_loopback(const IpBytes& ip) {
  return kLoopbackIpv4.contains(ip) || kLoopbackIpv6.contains(ip);
}

std::optional<IpBytes> parse_ip(std::string_view text) {
  const std::string address(text.substr(0, text.find('%')));
  IpBytes bytes{};
  if (inet_pton(AF_INET6, address.c_str(), bytes.data()) == 1) return bytes;

  std::array<std::uint8_t, 4> four{};
  if (inet_pton(AF_INET, address.c_str(), four.data()) != 1) return std::nullopt;
  return ipv4(four[0], four[1], four[2], four[3]);
}

bool IpPrefix::contains(const IpBytes& ip) const {
  const std::size_t whole_bytes = bits / 8;
  if (!std::equal(base.begin(), base.begin() + static_cast<std::ptrdiff_t>(whole_bytes),
                  ip.begin())) {
    return false;
  }
  const unsigned rest_bits = bits % 8;
  if (rest_bits == 0) return true;
  const auto mask = static_cast<std::uint8_t>(0xff00U >> rest_bits);
  return (base[whole_bytes] & mask) == (ip[whole_bytes] & mask);
}

std::optional<IpPrefix> parse_ip_prefix(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos || text.find('%') != std::string_view::npos) {
    return std::nullopt;
  }
  const std::string_view address = text.substr(0, slash);
  const auto base = parse_ip(address);
  if (!base) return std::nullopt;

  const std::string_view bits_text = text.substr(slash + 1);
  const bool has_sign_or_zeros = bits_text.empty() || bits_text.front() == '+' ||
                                 bits_text.front() == '-' ||
                                 (bits_text.size() > 1 && bits_text.front() == '0');
  if (has_sign_or_zeros) return std::nullopt;
  unsigned bits = 0;
  const char* const end = bits_text.data() + bits_text.size();
  const auto [parsed_to, error] = std::from_chars(bits_text.data(), end, bits);
  if (error != std::errc{} || parsed_to != end) return std::nullopt;

  const bool is_ipv4 = address.find(':') == std::string_view::npos;
  if (bits > (is_ipv4 ? kIpv4Bits : kIpBits)) return std::nullopt;
  return IpPrefix{.base = *base, .bits = is_ipv4 ? kMappedBits + bits : bits};
}

bool DebugAccess::allows(const http::Request& request, std::string_view peer_ip,
                         bool forwarded) const {
  if (!debug_key.empty() && request.method == "GET") {
    const auto given = query_value(request.query, "debugkey");
    if (given && equal_in_constant_time(*given, debug_key)) return true;
  }
  // What stands in front of us would lend its own address to everybody.
  if (!forwarded && !request.header("X-Forwarded-For").empty()) return false;

  const auto ip = parse_ip(peer_ip);
  if (!ip) return false;
  if (is_tailscale(*ip) || is_loopback(*ip)) return true;
  if (!allow_ip.empty() && allow_ip == peer_ip) return true;
  return std::ranges::any_of(trusted,
                             [&ip](const IpPrefix& prefix) { return prefix.contains(*ip); });
}

}  // namespace detour::admin
