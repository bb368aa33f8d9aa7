#pragma once

#include <cstdint>
#include <string>

#include "base/clock.h"
#include "net/address.h"

namespace detour::doctor {

/// How one address answers STUN.
struct StunAnswer {
  enum class End : std::uint8_t {
    kAnswered,
    kSilent,
    kRefused,     ///< The machine is there, and nothing listens on the port.
    kUnroutable,  ///< This machine cannot send there.
    kElsewhere,   ///< Answered from another address or port than the one asked: `from`.
    kStrange,     ///< Something answered that is no STUN response.
  };
  End end = End::kSilent;
  Duration time{};     ///< Of the first answer.
  std::string mapped;  ///< Where the server saw us come from: an IP literal.
  std::string from;    ///< Who answered.
  std::string local;   ///< The address that this machine sends from.
};

/// Asks up to `tries` times, `wait` each.
[[nodiscard]] StunAnswer ask_stun(const net::SocketAddress& server, int tries, Duration wait);

}  // namespace detour::doctor
