#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "load/plan.h"
#include "load/report.h"

namespace detour::load {

/// What was measured of one server. Each round holds "relay", and "stun" and "login" where they
/// were asked for: the reports of those loads, or {"error": "..."}.
struct ServerResult {
  std::string name;
  std::vector<Report> rounds = {};
};

/// The median over the rounds that have a number there, as "relay.latency_us.p50"; nullopt without
/// one.
[[nodiscard]] std::optional<double> median(const ServerResult& server, std::string_view path);

/// A table for people: a line for each number, a column for each server, and for two servers the
/// ratio of the first to the second. Ends with a line end.
[[nodiscard]] std::string table_text(const std::vector<ServerResult>& servers);

/// What is not as it should be, in sentences without a full stop: loss, damage, a pace that could
/// not be kept, an early end.
[[nodiscard]] std::vector<std::string> warnings_of(const std::vector<ServerResult>& servers);

/// Whether a server has lost everything that was sent.
[[nodiscard]] bool nothing_arrived(const std::vector<ServerResult>& servers);

/// All of it for programs.
[[nodiscard]] Report result_json(const Plan& plan, const std::vector<ServerResult>& servers);

}  // namespace detour::load
