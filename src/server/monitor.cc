#include "server/monitor.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "admin/monitoring.h"
#include "admin/page_data.h"
#include "base/files.h"
#include "metrics/exposition.h"
#include "net/socket.h"
#include "server/certificates.h"
#include "server/http_service.h"
#include "server/shared.h"
#include "server/surveyor.h"
#include "server/worker.h"

namespace detour::server {
namespace {

constexpr std::size_t kTokenSizeMax = 4096;
/// A worker goes through its loop many times in a second, however much it has to do.
constexpr Duration kPulseTimeout = std::chrono::seconds(1);
/// Half the period in which a page asks: several pages share one picture of the relay.
constexpr Duration kPictureAge = std::chrono::seconds(1);

std::expected<std::string, std::string> read_token(const std::string& path) {
  if (path.empty()) return std::string();
  auto content = read_file(path, kTokenSizeMax);
  if (!content) return std::unexpected("metrics token: " + content.error().message);
  constexpr std::string_view kWhiteSpace = " \t\r\n";
  content->erase(content->find_last_not_of(kWhiteSpace) + 1);
  content->erase(0, content->find_first_not_of(kWhiteSpace));
  const bool printable = std::ranges::all_of(*content, [](char c) { return c > 0x20 && c < 0x7f; });
  if (content->empty() || !printable)
    return std::unexpected(fmt::format(
        "metrics token: {}: one word of printable ASCII is needed, like the output of `openssl "
        "rand -hex 32`",
        path));
  return std::move(*content);
}

}  // namespace

Monitor::Monitor(Shared& shared)
    : shared_(shared), run_(fmt::format("{}", shared.started_wall.time_since_epoch().count())) {
  pulse_->asked_at.resize(shared.workers.size());
}

std::expected<std::unique_ptr<Monitor>, std::string> Monitor::start(
    Shared& shared, const config::ListenAddress& address, const std::string& token_file) {
  std::unique_ptr<Monitor> monitor(new Monitor(shared));
  if (auto read = monitor->reload_token(token_file); !read) return std::unexpected(read.error());
  const auto parsed = net::SocketAddress::parse(address.host, address.port);
  if (!parsed)
    return std::unexpected(fmt::format("metrics address {:?} is not an IP address", address.host));
  auto listener = net::listen_tcp(*parsed, {});
  if (!listener) return std::unexpected(listener.error());
  monitor->address_ = net::local_address(listener->get());
  monitor->history_.add(monitor->sample());
  auto server = SideServer::start(
      {.address = {},
       .listener = std::move(*listener),
       .answer = [self = monitor.get()](
                     const SideServer::Question& question) { return self->answer(question); },
       .tick = [self = monitor.get()] { self->history_.add(self->sample()); },
       .tick_period = admin::History::kPeriod});
  if (!server) return std::unexpected(server.error());
  monitor->server_ = std::move(*server);
  return monitor;
}

std::expected<void, std::string> Monitor::reload_token(const std::string& token_file) {
  auto token = read_token(token_file);
  if (!token) return std::unexpected(token.error());
  const std::lock_guard lock(token_mutex_);
  token_ = std::move(*token);
  return {};
}

admin::Sample Monitor::sample() const {
  return admin::Sample::of(shared_.http->snapshot(), Clock::now());
}

http::Response Monitor::answer(const SideServer::Question& question) {
  admin::Monitoring monitoring{
      .token = {},
      .render_metrics = [this] { return metrics::format_prometheus(shared_.http->snapshot()); },
      .unhealthy = [this] { return unhealthy(); },
      .unready = [this] { return unready(); },
      .answer_page_data =
          [this](const http::Request& request) { return answer_page_data(request); }};
  {
    const std::lock_guard lock(token_mutex_);
    monitoring.token = token_;
  }
  return admin::answer_monitoring(question.request, question.peer.ip_text(), monitoring);
}

http::Response Monitor::answer_page_data(const http::Request& request) {
  std::string problem;
  const auto progress = admin::parse_page_progress(request.query, problem);
  if (!progress) return http::text_error(400, problem);
  const auto picture = shared_.surveyor->take(kPictureAge);
  const auto visit = shared_.last_visit.get();
  const admin::PageData data{.status = *picture,
                             .monitoring = {.what = "monitoring", .address = address_.text()},
                             .history = history_,
                             .now = sample(),
                             .run = run_,
                             .doctor = visit};
  return {.status = 200,
          .headers = {{"Content-Type", "application/json"},
                      {"Cache-Control", "no-store"},
                      {"X-Content-Type-Options", "nosniff"},
                      {"Cross-Origin-Resource-Policy", "same-origin"}},
          .body = admin::format_page_json(data, *progress)};
}

std::optional<std::string> Monitor::unhealthy() {
  if (stopping_.load()) return std::nullopt;
  std::unique_lock lock(pulse_->mutex);
  for (std::size_t i = 0; i < shared_.workers.size(); ++i) {
    if (pulse_->asked_at[i]) continue;
    pulse_->asked_at[i] = Clock::now();
    shared_.workers[i]->post([pulse = pulse_, i] {
      const std::lock_guard answered(pulse->mutex);
      pulse->asked_at[i].reset();
      pulse->answered.notify_one();
    });
  }
  const auto all_answered = [this] {
    return std::ranges::none_of(pulse_->asked_at, [](const auto& at) { return at.has_value(); });
  };
  if (pulse_->answered.wait_for(lock, kPulseTimeout, all_answered)) return std::nullopt;
  for (std::size_t i = 0; i < pulse_->asked_at.size(); ++i) {
    if (!pulse_->asked_at[i]) continue;
    const auto waited =
        std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - *pulse_->asked_at[i]);
    return fmt::format("worker {} has not answered for {} s", i, waited.count());
  }
  return std::nullopt;
}

std::optional<std::string> Monitor::unready() const {
  if (stopping_.load()) return "the relay is stopping";
  if (shared_.drain.is_on()) return "the relay is draining: its clients are told to go elsewhere";
  if (shared_.limits.connections() >= shared_.descriptors_for_connections)
    return "out of file descriptors: new connections have to wait";
  if (shared_.certificates) return shared_.certificates->unready();
  return std::nullopt;
}

}  // namespace detour::server
