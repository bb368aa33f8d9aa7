#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "doctor/derp_map.h"
#include "doctor/probe_relay.h"

namespace detour::doctor {

/// As many regions are measured at the same time.
inline constexpr std::size_t kRegionsAtOnce = 16;

/// What a client would measure of one region, over its first node that answers.
struct RegionLatency {
  int id = 0;
  std::string code;
  std::string name;
  std::optional<Duration> stun_v4;
  std::optional<Duration> stun_v6;
  std::optional<Duration> https;  ///< From a request to its answer, TLS already there.
  std::string https_problem;      ///< Why clients get no answer over HTTPS; empty when they do.

  /// What counts for the choice of a home: STUN, and HTTPS only where nothing answers STUN.
  [[nodiscard]] std::optional<Duration> stun() const;
};

/// Called as each region is done, by one thread at a time.
using OnRegion = std::function<void(const RegionLatency&)>;

/// Measures every region of a map (or one) at the same time and gives them in the order of their
/// numbers.
[[nodiscard]] std::vector<RegionLatency> measure_regions(const DerpMap& map,
                                                         std::optional<int> region,
                                                         const ProbeOptions& options,
                                                         const std::string& authorities_file,
                                                         const OnRegion& on_region);

/// The region that clients would choose as home: the nearest by STUN, by HTTPS when none answers
/// STUN. Null when none answers.
[[nodiscard]] const RegionLatency* nearest(const std::vector<RegionLatency>& regions);

}  // namespace detour::doctor
