#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "metrics/exposition.h"

namespace detour::metrics {

/// What Linux tells about a process; the caller reads it (proc(5)).
struct ProcessTexts {
  std::string_view self_stat;       ///< /proc/self/stat
  std::string_view system_stat;     ///< /proc/stat
  std::string_view netstat;         ///< /proc/self/net/netstat; empty is allowed.
  std::uint64_t open_fds;           ///< Entries of /proc/self/fd.
  std::uint64_t max_fds;            ///< RLIMIT_NOFILE, soft.
  std::uint64_t virtual_max_bytes;  ///< RLIMIT_AS, soft.
  std::uint64_t ticks_per_second;   ///< sysconf(_SC_CLK_TCK)
  std::uint64_t page_bytes;         ///< sysconf(_SC_PAGESIZE)
};

/// Nothing when one of the texts is not as proc(5) describes it.
[[nodiscard]] std::optional<ProcessUsage> parse_process(const ProcessTexts& texts);

}  // namespace detour::metrics
