#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

namespace detour::load {

/// Monotonic time in nanoseconds; the stamp inside packets.
[[nodiscard]] std::uint64_t now_ns();
/// CPU time that this process has used, all threads, in nanoseconds.
[[nodiscard]] std::uint64_t own_cpu_ns();

/// Reads what a server process uses, through the kernel and without its help.
class ServerProcess {
 public:
  /// `pid` of 0 means that no server is watched: everything reads as 0.
  explicit ServerProcess(pid_t pid) : pid_(pid) {}

  [[nodiscard]] bool is_watched() const { return pid_ != 0; }
  /// CPU time used so far, all threads, user and kernel, in nanoseconds.
  [[nodiscard]] std::uint64_t cpu_ns() const;
  /// Resident memory in bytes.
  [[nodiscard]] std::uint64_t resident_bytes() const;

 private:
  pid_t pid_;
};

}  // namespace detour::load
