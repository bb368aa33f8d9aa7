#include "admin/bootstrap_dns.h"

#include <fmt/format.h>

#include "admin/debug_access.h"

namespace detour::admin {
namespace {

__extension__ using Uint128 = unsigned __int128;

[[nodiscard]] std::uint64_t read_le64(const std::uint8_t* bytes) {
  std::uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = value << 8 | bytes[i];
  return value;
}

/// A JSON string. Names hold no control characters, but they come from the operator.
[[nodiscard]] std::string quoted(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    if (static_cast<unsigned char>(c) < 0x20) {
      result += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      result += c;
    }
  }
  return result + "\"";
}

[[nodiscard]] bool is_in_share(std::string_view peer_ip, double share, double coin) {
  if (share <= 0) return false;
  if (share >= 1) return true;
  const auto ip = parse_ip(peer_ip);
  if (!ip) return false;
  if (is_loopback(*ip)) return coin < 0.5;
  return share > address_share(*ip);
}

}  // namespace

std::string format_bootstrap_json(const BootstrapNames& names) {
  if (names.empty()) return "null";
  std::string json = "{";
  std::string_view between_names = "\n\t";
  for (const auto& [name, value] : names) {
    json += between_names;
    json += quoted(name) + ": [";
    std::string_view between_ips = "\n\t\t";
    for (const std::string& ip : value.ips) {
      json += between_ips;
      json += quoted(ip);
      between_ips = ",\n\t\t";
    }
    json += value.ips.empty() ? "]" : "\n\t]";
    between_names = ",\n\t";
  }
  return json + "\n}";
}

BootstrapAnswer answer_bootstrap(const BootstrapCache& cache, std::string_view query,
                                 std::string_view peer_ip, double coin) {
  BootstrapAnswer answer;
  if (query.empty()) {
    answer.body = cache.published_json;
    return answer;
  }
  const auto unpublished = cache.unpublished.find(query);
  if (unpublished != cache.unpublished.end() && !unpublished->second.ips.empty()) {
    answer.unpublished_hit = true;
    if (is_in_share(peer_ip, unpublished->second.share, coin)) {
      answer.body = format_bootstrap_json({*unpublished});
      return answer;
    }
    answer.unpublished_percent_miss = true;
  }
  const auto published = cache.published.find(query);
  if (published == cache.published.end()) {
    answer.unpublished_miss = true;
  } else {
    (published->second.ips.empty() ? answer.published_miss : answer.published_hit) = true;
  }
  answer.body = cache.published_json;
  return answer;
}

double address_share(const std::array<std::uint8_t, 16>& ip) {
  constexpr Uint128 kMultiplier = Uint128{0x2360ED051FC65DA4} << 64 | 0x4385DF649FCCF645;
  constexpr Uint128 kIncrement = Uint128{0x5851F42D4C957F2D} << 64 | 0x14057B7EF767814F;
  constexpr std::uint64_t kCheapMultiplier = 0xda942042e4dd58b5;

  Uint128 state = Uint128{read_le64(ip.data())} << 64 | read_le64(ip.data() + 8);
  state = state * kMultiplier + kIncrement;
  auto high = static_cast<std::uint64_t>(state >> 64);
  const auto low = static_cast<std::uint64_t>(state);
  high ^= high >> 32;
  high *= kCheapMultiplier;
  high ^= high >> 48;
  high *= low | 1;
  constexpr std::uint64_t kTwoTo53 = std::uint64_t{1} << 53;
  return static_cast<double>(high % kTwoTo53) / static_cast<double>(kTwoTo53);
}

}  // namespace detour::admin
