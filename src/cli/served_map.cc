#include "cli/served_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>
#include <utility>

#include "base/clock.h"
#include "base/files.h"
#include "doctor/check_server.h"
#include "doctor/derp_map.h"

namespace detour::cli {
namespace {

constexpr Duration kFreshFor = std::chrono::seconds(10);

/// The map of a configuration, made again when it has become old. Safe from any thread.
class MapCache {
 public:
  explicit MapCache(config::Config config) : config_(std::move(config)) {}

  std::string get() {
    const TimePoint now = Clock::now();
    const std::lock_guard lock(mutex_);
    if (text_.empty() || now - made_ >= kFreshFor) {
      text_ = doctor::render_map(doctor::map_of(config_), doctor::MapFormat::kJson);
      made_ = now;
    }
    return text_;
  }

 private:
  const config::Config config_;
  std::mutex mutex_;
  std::string text_;
  TimePoint made_;
};

/// What may stand in a URL as it is.
bool is_token(const std::string& text) {
  return !text.empty() && text.size() <= kMapTokenMax && std::ranges::all_of(text, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '_' || c == '.' || c == '~';
  });
}

}  // namespace

std::expected<admin::MapPage, std::string> served_map(const config::Config& config) {
  admin::MapPage page;
  if (config.serve_map.empty()) return page;
  if (!config.serve_map_token_file.empty()) {
    auto content = read_file(config.serve_map_token_file, 2 * kMapTokenMax);
    if (!content)
      return std::unexpected(fmt::format("token of the DERP map: {}", content.error().message));
    while (!content->empty() && (content->back() == '\n' || content->back() == '\r'))
      content->pop_back();
    if (!is_token(*content))
      return std::unexpected(
          fmt::format("token of the DERP map: {} has to hold 1 to {} letters, digits and - _ . ~, "
                      "since it stands "
                      "in a URL: openssl rand -hex 16 makes one",
                      config.serve_map_token_file, kMapTokenMax));
    page.token = std::move(*content);
  }
  page.path = config.serve_map;
  page.render = [cache = std::make_shared<MapCache>(config)] { return cache->get(); };
  return page;
}

}  // namespace detour::cli
