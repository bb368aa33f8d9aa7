#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>

namespace detour::config {

/// The content of a -rate-config file, as written there.
struct RateConfig {
  std::uint64_t per_client_bytes_per_second = 0;  ///< 0 = no limit.
  std::uint64_t per_client_burst_bytes = 0;

  friend bool operator==(const RateConfig&, const RateConfig&) = default;
};

/// derper's format: a JSON object with the fields `PerClientRateLimitBytesPerSec` and
/// `PerClientRateBurstBytes`, both whole numbers from 0 on, both optional, their names in any case;
/// other fields are ignored and the last of several counts, as in Go.
///
/// Fails with a message that names `path`, what is wrong, and what to write instead.
[[nodiscard]] std::expected<RateConfig, std::string> parse_rate_config(const std::string& path,
                                                                       std::string_view content);

/// Reads and parses the file.
[[nodiscard]] std::expected<RateConfig, std::string> load_rate_config(const std::string& path);

}  // namespace detour::config
