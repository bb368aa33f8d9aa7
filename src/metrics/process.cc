#include "metrics/process.h"

#include <algorithm>
#include <charconv>
#include <vector>

namespace detour::metrics {
namespace {

// Positions in /proc/self/stat, counted from the state, which is the first field behind the name
// in parentheses (proc(5) counts it as field 3).
constexpr std::size_t kUserTicks = 14 - 3;
constexpr std::size_t kSystemTicks = 15 - 3;
constexpr std::size_t kStartTicks = 22 - 3;
constexpr std::size_t kVirtualBytes = 23 - 3;
constexpr std::size_t kResidentPages = 24 - 3;

[[nodiscard]] std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> fields;
  while (true) {
    const std::size_t begin = text.find_first_not_of(" \n");
    if (begin == std::string_view::npos) return fields;
    const std::size_t end = std::min(text.find_first_of(" \n", begin), text.size());
    fields.push_back(text.substr(begin, end - begin));
    text.remove_prefix(end);
  }
}

[[nodiscard]] std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// When the machine started, in seconds since 1970: the line "btime N".
[[nodiscard]] std::optional<std::uint64_t> boot_time(std::string_view system_stat) {
  constexpr std::string_view kName = "\nbtime ";
  const std::size_t found = system_stat.find(kName);
  if (found == std::string_view::npos) return std::nullopt;
  const std::string_view rest = system_stat.substr(found + kName.size());
  return number(rest.substr(0, rest.find('\n')));
}

/// A number of IpExt: the names stand in one line, the numbers in the next one that begins the
/// same.
[[nodiscard]] std::uint64_t ip_octets(std::string_view netstat, std::string_view name) {
  constexpr std::string_view kBegin = "IpExt: ";
  const std::size_t names_at = netstat.find(kBegin);
  if (names_at == std::string_view::npos) return 0;
  const std::size_t numbers_at = netstat.find(kBegin, names_at + kBegin.size());
  if (numbers_at == std::string_view::npos) return 0;
  const auto line = [&](std::size_t at) {
    return split(netstat.substr(at, netstat.find('\n', at) - at));
  };
  const auto names = line(names_at);
  const auto numbers = line(numbers_at);
  const auto found = static_cast<std::size_t>(std::ranges::find(names, name) - names.begin());
  return found < names.size() && found < numbers.size() ? number(numbers[found]).value_or(0) : 0;
}

}  // namespace

std::optional<ProcessUsage> parse_process(const ProcessTexts& texts) {
  // The name may hold spaces and parentheses itself; only the last one ends it.
  const std::size_t name_end = texts.self_stat.rfind(')');
  if (name_end == std::string_view::npos) return std::nullopt;
  const auto fields = split(texts.self_stat.substr(name_end + 1));
  if (fields.size() <= kResidentPages) return std::nullopt;

  const auto user = number(fields[kUserTicks]);
  const auto system = number(fields[kSystemTicks]);
  const auto start = number(fields[kStartTicks]);
  const auto virtual_bytes = number(fields[kVirtualBytes]);
  const auto resident_pages = number(fields[kResidentPages]);
  const auto boot = boot_time(texts.system_stat);
  if (!user || !system || !start || !virtual_bytes || !resident_pages || !boot) return std::nullopt;

  const auto seconds = [&texts](std::uint64_t ticks) {
    return static_cast<double>(ticks) / static_cast<double>(texts.ticks_per_second);
  };
  return ProcessUsage{.cpu_seconds = seconds(*user + *system),
                      .resident_bytes = *resident_pages * texts.page_bytes,
                      .virtual_bytes = *virtual_bytes,
                      .open_fds = texts.open_fds,
                      .max_fds = texts.max_fds,
                      .virtual_max_bytes = texts.virtual_max_bytes,
                      .network_received_bytes = ip_octets(texts.netstat, "InOctets"),
                      .network_sent_bytes = ip_octets(texts.netstat, "OutOctets"),
                      .start_unix_seconds = static_cast<double>(*boot) + seconds(*start),
                      .boot_unix_seconds = static_cast<std::int64_t>(*boot)};
}

}  // namespace detour::metrics
