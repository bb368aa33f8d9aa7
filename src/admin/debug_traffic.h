#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "admin/status.h"
#include "http/message.h"

/// /debug/traffic, as derper has it (docs/operations.md). Values in, values out.
namespace detour::admin {

/// What /debug/traffic goes on writing: for each client whose connection carried something since
/// the time before one JSON object in a line, and an empty line at the end of each round.
class TrafficStream {
 public:
  /// One round. The first one tells of all clients.
  [[nodiscard]] std::string next(const RelayStatus& status);

 private:
  using Bytes = std::pair<std::uint64_t, std::uint64_t>;  ///< Sent, received.
  std::map<relay::ClientId, Bytes> before_;
};

/// The head of the answer that a TrafficStream follows.
[[nodiscard]] http::Response traffic_head();

}  // namespace detour::admin
