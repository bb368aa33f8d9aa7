#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

/// /bootstrap-dns: addresses of the control plane for clients whose own DNS does not work. Pure:
/// who looks names up is server/bootstrap_dns.h.
namespace detour::admin {

struct BootstrapName {
  std::vector<std::string> ips;
  double share = 1.0;  ///< Of the clients that are told of it, 0 to 1.
};
/// Only names that could be looked up.
using BootstrapNames = std::map<std::string, BootstrapName, std::less<>>;

/// What was looked up last.
struct BootstrapCache {
  BootstrapNames published;
  std::string published_json;  ///< Empty until the first look-up.
  BootstrapNames unpublished;  ///< Given only to who asks for the name.
};

/// Names and their addresses as Go indents JSON: an object of arrays. `null` without any name.
[[nodiscard]] std::string format_bootstrap_json(const BootstrapNames& names);

struct BootstrapAnswer {
  std::string body;
  // What is counted.
  bool unpublished_hit = false;
  bool unpublished_percent_miss = false;
  bool published_hit = false;
  bool published_miss = false;
  bool unpublished_miss = false;
};

/// The answer to `?q=<query>` (empty = no query) from `peer_ip`. `coin` in [0, 1) decides for
/// loopback, where the address says nothing.
[[nodiscard]] BootstrapAnswer answer_bootstrap(const BootstrapCache& cache, std::string_view query,
                                               std::string_view peer_ip, double coin);

/// A number in [0, 1) that is the same for an address on every relay and every day: one draw of
/// PCG-DXSM seeded with the 16 bytes of the address, so that it is also derper's.
[[nodiscard]] double address_share(const std::array<std::uint8_t, 16>& ip);

}  // namespace detour::admin
