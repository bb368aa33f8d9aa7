#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

#include "base/files.h"
#include "config/command_line.h"

extern char** environ;

namespace detour::config {
namespace {

constexpr std::size_t kConfigFileSizeMax = 1024 * 1024;

}  // namespace

std::string_view Environment::get(std::string_view name) const {
  const auto found = variables.find(name);
  return found == variables.end() ? std::string_view() : std::string_view(found->second);
}

Environment Environment::of_this_process() {
  Environment environment;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const auto equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    // The first one counts, as in getenv().
    environment.variables.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  environment.is_root = geteuid() == 0;
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  // Fails on machines with more than 1024 CPUs; one worker each would be too many there anyway.
  const int count = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? CPU_COUNT(&cpus)
                                                                  : static_cast<int>(kWorkersMax);
  environment.cpus =
      static_cast<std::uint32_t>(std::clamp(count, 1, static_cast<int>(kWorkersMax)));
  environment.file_exists = [](const std::string& path) { return access(path.c_str(), F_OK) == 0; };
  environment.read_file = [](const std::string& path) -> std::expected<std::string, std::string> {
    auto content = detour::read_file(path, kConfigFileSizeMax);
    if (!content) return std::unexpected(content.error().message);
    return std::move(*content);
  };
  return environment;
}

}  // namespace detour::config
