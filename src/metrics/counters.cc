#include "metrics/counters.h"

#include <algorithm>

namespace detour::metrics {

std::string_view label(DropReason reason) {
  switch (reason) {
    case DropReason::kUnknownDest:
      return "unknown_dest";
    case DropReason::kUnknownDestOnFwd:
      return "unknown_dest_on_fwd";
    case DropReason::kGoneDisconnected:
      return "gone_disconnected";
    case DropReason::kQueueHead:
      return "queue_head";
    case DropReason::kQueueTail:
      return "queue_tail";
    case DropReason::kWriteError:
      return "write_error";
    case DropReason::kDupClient:
      return "dup_client";
  }
  return "unknown";
}

std::string_view label(PacketKind kind) {
  switch (kind) {
    case PacketKind::kDisco:
      return "disco";
    case PacketKind::kOther:
      return "other";
  }
  return "unknown";
}

TcpRtt tcp_rtt_bucket(std::chrono::microseconds round_trip_time) {
  using std::chrono::milliseconds;
  constexpr std::array kBounds = {milliseconds(10),  milliseconds(20),  milliseconds(50),
                                  milliseconds(100), milliseconds(150), milliseconds(250),
                                  milliseconds(500)};
  static_assert(kBounds.size() == static_cast<std::size_t>(TcpRtt::kLonger));
  const auto bound = std::ranges::lower_bound(kBounds, round_trip_time);
  return static_cast<TcpRtt>(bound - kBounds.begin());
}

std::string_view label(TcpRtt bucket) {
  constexpr std::array<std::string_view, kTcpRttCount> kLabels = {
      "10ms", "20ms", "50ms", "100ms", "150ms", "250ms", "500ms", "inf", "non-tcp", "error"};
  return kLabels[static_cast<std::size_t>(bucket)];
}

}  // namespace detour::metrics
