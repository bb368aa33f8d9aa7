#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

namespace detour::net {

/// What the kernel knows about a TCP connection.
struct TcpFacts {
  std::chrono::microseconds round_trip_time{};  ///< Smoothed.
  std::chrono::microseconds variation{};        ///< Of the round-trip time.
  std::uint32_t congestion_window = 0;          ///< Segments.
  std::uint32_t retransmissions = 0;            ///< Segments, in all.
  std::uint64_t sent_bytes = 0;                 ///< Of the stream, those sent again counted again.
  std::uint64_t received_bytes = 0;
};

/// Nothing when the kernel does not tell.
[[nodiscard]] std::optional<TcpFacts> tcp_facts(int fd);

}  // namespace detour::net
