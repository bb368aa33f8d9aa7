#include "metrics/counters.h"

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

}  // namespace detour::metrics
