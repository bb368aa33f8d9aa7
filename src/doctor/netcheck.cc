#include "doctor/netcheck.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <thread>

#include "doctor/dns.h"
#include "doctor/judge_certificate.h"
#include "doctor/stun_probe.h"
#include "doctor/wire.h"

namespace detour::doctor {
namespace {

constexpr int kStunTries = 3;
constexpr Duration kStunWait = std::chrono::milliseconds(700);
constexpr std::size_t kNodesMax = 2;  ///< Clients measure the first nodes of a region.

/// The addresses that clients dial for a node.
std::vector<std::string> addresses_of(const Target& target, const ProbeOptions& options) {
  std::vector<std::string> addresses;
  for (const auto* fixed : {&target.ipv4, &target.ipv6}) {
    if (!fixed->empty() && net::SocketAddress::parse(*fixed, 0)) addresses.push_back(*fixed);
  }
  if (target.host_is_ip()) {
    if (addresses.empty()) addresses.push_back(target.host);
    return addresses;
  }
  const auto answer = options.resolvers.empty()
                          ? ask_system(target.host)
                          : ask_resolver(options.resolvers.front(), target.host, options.timeout);
  for (const auto& address : answer.addresses) {
    const bool is_v6 = address.find(':') != std::string::npos;
    if ((is_v6 ? target.ipv6 : target.ipv4).empty()) addresses.push_back(address);
  }
  return addresses;
}

void measure_stun(const Target& target, const std::string& ip, RegionLatency* region) {
  if (!target.stun_port) return;
  const auto address = net::SocketAddress::parse(ip, *target.stun_port);
  if (!address) return;
  auto& best = address->family() == AF_INET6 ? region->stun_v6 : region->stun_v4;
  if (best) return;
  const auto answer = ask_stun(*address, kStunTries, kStunWait);
  if (answer.end == StunAnswer::End::kAnswered) best = answer.time;
}

/// Empty when clients get an answer; else why not.
std::string measure_https(const Target& target, const std::string& ip, Duration timeout,
                          RegionLatency* region) {
  const auto address = net::SocketAddress::parse(ip, target.port);
  if (!address) return "the address is none";
  Wire wire;
  if (const auto connected = wire.connect(*address, timeout); connected.error != 0)
    return fmt::format("TCP: {}", std::strerror(connected.error));
  const auto tls = wire.handshake({.server_name = target.server_name(), .timeout = timeout});
  if (tls.end != TlsAnswer::End::kDone)
    return fmt::format("TLS: {}", tls.reason.empty() ? "no answer" : tls.reason);
  for (const auto& finding : judge_certificate({.sent = tls.certificates,
                                                .has_meta = tls.has_meta(),
                                                .name = target.expected_name(),
                                                .sends_sni = !target.host_is_ip(),
                                                .pin = target.pin,
                                                .insecure = target.insecure,
                                                .authorities_file = target.authorities_file})) {
    if (finding.state == State::kFail)
      return fmt::format("{} {}: {}", finding.code, finding.fault, finding.cause);
  }
  const TimePoint start = Clock::now();
  const auto answer = wire.ask(fmt::format("GET /derp/latency-check HTTP/1.1\r\nHost: {}\r\n"
                                           "User-Agent: detour netcheck\r\n"
                                           "Connection: close\r\n\r\n",
                                           target.host_header()),
                               timeout);
  const Duration time = Clock::now() - start;
  if (!answer || answer->status != 200)
    return fmt::format("/derp/latency-check is answered with {}", answer ? answer->status : 0);
  region->https = time;
  return {};
}

RegionLatency measure(const DerpMap& map, const MapRegion& region, const ProbeOptions& options,
                      const std::string& authorities_file) {
  RegionLatency result{.id = region.id,
                       .code = region.code,
                       .name = region.name,
                       .stun_v4 = {},
                       .stun_v6 = {},
                       .https = {},
                       .https_problem = {}};
  auto targets = targets_of(map, region.id);
  if (targets.size() > kNodesMax) targets.resize(kNodesMax);
  if (targets.empty()) result.https_problem = "it has no node";
  for (auto& target : targets) {
    target.authorities_file = authorities_file;
    const auto addresses = addresses_of(target, options);
    if (addresses.empty()) result.https_problem = fmt::format("{} has no address", target.host);
    for (const auto& ip : addresses) {
      measure_stun(target, ip, &result);
      if (!target.relays || result.https) continue;
      result.https_problem = measure_https(target, ip, options.timeout, &result);
    }
    if (result.stun() && result.https) break;
  }
  if (result.https) result.https_problem.clear();
  return result;
}

}  // namespace

std::optional<Duration> RegionLatency::stun() const {
  if (stun_v4 && stun_v6) return std::min(*stun_v4, *stun_v6);
  return stun_v4 ? stun_v4 : stun_v6;
}

std::vector<RegionLatency> measure_regions(const DerpMap& map, std::optional<int> region,
                                           const ProbeOptions& options,
                                           const std::string& authorities_file,
                                           const OnRegion& on_region) {
  std::vector<const MapRegion*> wanted;
  for (const auto& [id, candidate] : map.regions) {
    if (!region || *region == id) wanted.push_back(&candidate);
  }
  std::vector<RegionLatency> results(wanted.size());
  std::atomic<std::size_t> next = 0;
  std::mutex one_at_a_time;
  const auto work = [&] {
    for (std::size_t i = next++; i < wanted.size(); i = next++) {
      results[i] = measure(map, *wanted[i], options, authorities_file);
      const std::lock_guard lock(one_at_a_time);
      if (on_region) on_region(results[i]);
    }
  };
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i < std::min(wanted.size(), kRegionsAtOnce); ++i)
    threads.emplace_back(work);
  threads.clear();  // Waits for them.
  return results;
}

const RegionLatency* nearest(const std::vector<RegionLatency>& regions) {
  const RegionLatency* best = nullptr;
  const bool any_stun =
      std::ranges::any_of(regions, [](const auto& region) { return region.stun().has_value(); });
  const auto latency = [any_stun](const RegionLatency& region) {
    return any_stun ? region.stun() : region.https;
  };
  for (const auto& region : regions) {
    if (latency(region) && (best == nullptr || *latency(region) < *latency(*best))) best = &region;
  }
  return best;
}

}  // namespace detour::doctor
