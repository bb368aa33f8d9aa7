#pragma once

#include <cstdint>

namespace detour::load {

/// How packets become TLS records and writes.
enum class Packing : std::uint8_t {
  kPacket,    ///< One record and one send() for each packet, as Go clients do.
  kCoalesce,  ///< One record for each packet, one send() for all that the window allows.
  kBulk,      ///< Packets packed into full records, one send().
};

/// Traffic of one kind: `senders` to `receivers`, in as many flows as the larger of the two.
struct Traffic {
  std::uint32_t senders = 10;
  std::uint32_t receivers = 10;
  std::uint32_t payload_bytes = 1400;
  std::uint32_t window = 24;  ///< Packets in flight per flow.
  Packing packing = Packing::kPacket;
  double packets_per_second = 0;  ///< Of all flows together; 0 = as fast as the window allows.
};

}  // namespace detour::load
