#include "load/descriptors.h"

#include <fmt/format.h>
#include <sys/resource.h>

namespace detour::load {

namespace {

/// Standard streams, epoll instances and the like.
constexpr std::uint64_t kOtherFiles = 32;

}  // namespace

std::optional<std::string> make_room_for(std::uint64_t connections) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return std::nullopt;
  limit.rlim_cur = limit.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &limit);
  const std::uint64_t needed = connections + kOtherFiles;
  if (limit.rlim_max >= needed) return std::nullopt;
  return fmt::format(
      "{} connections need {} open files, and {} are allowed: raise the limit with "
      "`ulimit -n {}`, or ask for fewer clients",
      connections, needed, limit.rlim_max, needed);
}

}  // namespace detour::load
