#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "doctor/finding.h"

namespace detour::doctor {

/// Where the kernel's files are. Injected so that tests choose.
struct MachineRoots {
  std::string proc = "/proc";
  std::string sys = "/sys";
};

/// A relay that runs on this machine: Detour, started as itself or under the name derper.
struct RelayProcess {
  int pid = 0;
  uid_t uid = 0;
  bool as_derper = false;
  std::string program;            ///< As it was called.
  std::vector<std::string> args;  ///< Behind the program and `serve`.
  /// Nullopt when this user may not read them.
  std::optional<std::map<std::string, std::string, std::less<>>> environment;
};
[[nodiscard]] std::vector<RelayProcess> find_relays(const MachineRoots& roots = {});

enum class Protocol : std::uint8_t { kTcp, kUdp };

/// Whether a port can be had.
struct PortState {
  enum class End : std::uint8_t { kFree, kTaken, kDenied, kNoSuchAddress, kFailed };
  End end = End::kFree;
  int error = 0;
  int holder_pid = 0;  ///< For kTaken; 0 when this user may not know.
  std::string holder;  ///< Its program.
};
/// Tries to bind `host` (empty: all addresses) and `port` for a moment.
[[nodiscard]] PortState look_at_port(Protocol protocol, const std::string& host, std::uint16_t port,
                                     const MachineRoots& roots = {});

/// D26: limits that make a relay slow or refuse clients. `pid` is the relay's; 0: this process.
[[nodiscard]] std::vector<Finding> judge_machine(int pid, const MachineRoots& roots = {});

/// What keeps a user from reading a file: empty when nothing does.
[[nodiscard]] std::string why_unreadable(const std::string& path, uid_t uid);
/// "derp (uid 998)".
[[nodiscard]] std::string user_text(uid_t uid);

/// The addresses of this machine's interfaces, loopback left out.
[[nodiscard]] std::vector<std::string> own_addresses();

}  // namespace detour::doctor
