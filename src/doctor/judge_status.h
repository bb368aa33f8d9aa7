#pragma once

#include <string_view>
#include <vector>

#include "doctor/finding.h"

namespace detour::doctor {

/// A client is judged once this much was sent to it.
inline constexpr double kJudgedBytesMin = 1e6;
/// More retransmissions than this, as a share of what was sent, make tunnelled connections crawl.
inline constexpr double kRetransmittedShareMax = 0.05;
/// More packets than this, as a share, were dropped because a client did not take them in time.
inline constexpr double kDroppedShareMax = 0.01;
/// Over at least this long.
inline constexpr double kPairSecondsMin = 10;
/// What a pair has to relay before a peer relay is worth a thought, in bits per second.
inline constexpr double kHeavyPairBits = 2e6;

/// What the running relay's own status says of the paths to its clients (D27) and of pairs that
/// talk a lot (D33). `status` is the JSON that its control socket gives; what is no such JSON gives
/// nothing. Decides only.
[[nodiscard]] std::vector<Finding> judge_status(std::string_view status);

}  // namespace detour::doctor
