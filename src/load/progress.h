#pragma once

#include <cstdint>
#include <functional>

namespace detour::load {

/// How far a load has come.
struct Progress {
  double seconds = 0;        ///< Since the load began, after the logins; 0 before.
  std::uint64_t done = 0;    ///< Packets, logins or answers so far.
  std::uint64_t lost = 0;    ///< Packets or requests.
  std::uint64_t bytes = 0;   ///< Of payload that arrived.
  double seconds_whole = 0;  ///< How long the load is to last; 0 when it ends by number.
};

/// Called by the thread that runs a load, some ten times a second. False ends the load early: it
/// then reports what it has.
using Watch = std::function<bool(const Progress&)>;

}  // namespace detour::load
