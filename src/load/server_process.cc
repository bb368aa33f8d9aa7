#include "load/server_process.h"

#include <fmt/format.h>
#include <unistd.h>

#include <ctime>
#include <fstream>

namespace detour::load {

namespace {

constexpr std::uint64_t kNanosecondsPerSecond = 1'000'000'000;

std::uint64_t read_clock(clockid_t clock) {
  timespec time{};
  if (clock_gettime(clock, &time) != 0) return 0;
  return static_cast<std::uint64_t>(time.tv_sec) * kNanosecondsPerSecond +
         static_cast<std::uint64_t>(time.tv_nsec);
}

}  // namespace

std::uint64_t now_ns() {
  return read_clock(CLOCK_MONOTONIC);
}

std::uint64_t own_cpu_ns() {
  return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

std::uint64_t ServerProcess::cpu_ns() const {
  clockid_t clock{};
  if (!is_watched() || clock_getcpuclockid(pid_, &clock) != 0) return 0;
  return read_clock(clock);
}

std::uint64_t ServerProcess::resident_bytes() const {
  if (!is_watched()) return 0;
  std::ifstream statm(fmt::format("/proc/{}/statm", pid_));
  std::uint64_t total_pages = 0;
  std::uint64_t resident_pages = 0;
  statm >> total_pages >> resident_pages;
  return resident_pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace detour::load
