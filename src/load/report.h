#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>

#include "load/histogram.h"
#include "load/server_process.h"

namespace detour::load {

/// Results under names that bench/compare reads; numbers carry their unit in the name.
using Report = nlohmann::ordered_json;

inline constexpr double kGibibyte = 1024.0 * 1024.0 * 1024.0;

[[nodiscard]] inline double seconds_of(std::uint64_t nanoseconds) {
  return static_cast<double>(nanoseconds) / 1e9;
}
[[nodiscard]] inline double micros_of(std::uint64_t nanoseconds) {
  return static_cast<double>(nanoseconds) / 1e3;
}

/// p50, p90, p99, p99.9 and maximum in microseconds.
[[nodiscard]] Report latency_report(const Histogram& histogram);

/// CPU and clock between two moments.
class Usage {
 public:
  explicit Usage(const ServerProcess& server);
  /// Fixes the end. Until then all below is 0.
  void stop();

  [[nodiscard]] double seconds() const { return seconds_of(wall_ns_); }
  [[nodiscard]] double server_cpu_seconds() const { return seconds_of(server_ns_); }
  /// Adds seconds, server_cpu_s, server_cpu_percent, generator_cpu_percent and server_rss_mib.
  void add_to(Report* report) const;

 private:
  const ServerProcess& server_;
  std::uint64_t wall_start_;
  std::uint64_t server_start_;
  std::uint64_t own_start_;
  std::uint64_t wall_ns_ = 0;
  std::uint64_t server_ns_ = 0;
  std::uint64_t own_ns_ = 0;
  std::uint64_t resident_bytes_ = 0;
};

/// Prints `report` as indented JSON, or as one "name value" per line.
void print(const Report& report, bool as_json);

}  // namespace detour::load
