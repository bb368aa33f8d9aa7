#include "server/process_usage.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <iterator>
#include <string>
#include <system_error>

#include "base/files.h"
#include "metrics/process.h"

namespace detour::server {

namespace {

/// With hundreds of cores /proc/stat has some 100 KiB.
constexpr std::size_t kFileSizeMax = 1024 * 1024;

/// Empty when it cannot be read: what stands in it is unknown then.
std::string read_or_nothing(const char* path) {
  return read_file(path, kFileSizeMax).value_or("");
}

std::uint64_t count_open_descriptors() {
  std::error_code error;
  const std::filesystem::directory_iterator open("/proc/self/fd", error);
  if (error) return 0;
  // The iterator holds a descriptor of its own.
  const auto count = std::distance(begin(open), end(open));
  return count > 0 ? static_cast<std::uint64_t>(count) - 1 : 0;
}

}  // namespace

metrics::ProcessUsage read_process_usage() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  rlimit address_space{};
  ::getrlimit(RLIMIT_AS, &address_space);
  const std::string netstat = read_or_nothing("/proc/self/net/netstat");
  const std::string self_stat = read_or_nothing("/proc/self/stat");
  const std::string system_stat = read_or_nothing("/proc/stat");
  return metrics::parse_process(
             {
                 .self_stat = self_stat,
                 .system_stat = system_stat,
                 .netstat = netstat,
                 .open_fds = count_open_descriptors(),
                 .max_fds = limit.rlim_cur,
                 .virtual_max_bytes = address_space.rlim_cur,
                 .ticks_per_second = static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK)),
                 .page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)),
             })
      .value_or(metrics::ProcessUsage{});
}

}  // namespace detour::server
