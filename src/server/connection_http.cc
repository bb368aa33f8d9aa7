#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "server/connect_target.h"
#include "server/connection.h"
#include "server/worker.h"

namespace detour::server {

namespace {

/// How long we wait for the peer to close after our side ended.
constexpr Duration kLingerTimeout = std::chrono::seconds(2);
/// The same, from its last byte on, for who takes slowly what came through a tunnel.
constexpr Duration kTunnelLingerTimeout = std::chrono::seconds(60);

}  // namespace

bool Connection::consume_http(std::span<const std::uint8_t>& input) {
  if (input.empty()) return false;
  auto parsed = http::parse_request(input);
  if (!parsed) {
    refuse_http(parsed.error().code);
    input = {};
    return false;
  }
  if (!*parsed) return false;

  input = input.subspan((*parsed)->head_size);
  const http::Request& request = (*parsed)->request;
  if (const auto upgrade = shared_.http->derp_upgrade(request, listener_)) {
    const auto caller = shared_.http->caller(request, peer_);
    if (caller.forwarded && !move_to(caller.address)) {
      refuse_too_many();
      input = {};
      return false;
    }
    begin_derp(*upgrade, input);
  } else if (asks_for_tunnel(request)) {
    begin_tunnel(request);
  } else if (const auto page = shared_.http->slow_page(
                 request, shared_.http->caller(request, peer_), listener_)) {
    begin_slow_answer(*page, request);
  } else {
    answer(request);
  }
  return true;
}

bool Connection::consume_body(std::span<const std::uint8_t>& input) {
  const auto skipped = setup_->body.skip(input);
  if (!skipped) {
    refuse_http(skipped.error().code);
    input = {};
    return false;
  }
  input = input.subspan(*skipped);
  if (!setup_->body.done()) return false;
  phase_ = Phase::kHttp;
  return true;
}

void Connection::refuse_http(ErrorCode code) {
  const bool too_large = code == ErrorCode::kHttpHeadTooLarge;
  if (too_large) scratch_.counters.http_head_too_large.add();
  shared_.log_gated(LogCause::kHttpRejected, LogLevel::kInfo, scratch_.now, [&] {
    return fmt::format("{} sent a bad HTTP request: {}", peer_.text(), describe(code));
  });
  const http::Response response = too_large
                                      ? http::text_error(431, "431 Request Header Fields Too Large")
                                      : http::text_error(400, "400 Bad Request");
  respond(http::serialize_error(response, HttpService::unix_seconds()), /*close_after=*/true);
}

void Connection::refuse_too_many() {
  respond(http::serialize_error(http::text_error(429, "too many connections from this address"),
                                HttpService::unix_seconds()),
          /*close_after=*/true);
}

void Connection::answer(const http::Request& request) {
  reply(shared_.http->respond(request, shared_.http->caller(request, peer_), listener_), request);
}

void Connection::reply(const http::Response& response, const http::Request& request) {
  setup_->served_before = true;
  setup_->body = http::BodySkipper(request);
  if (!setup_->body.done()) phase_ = Phase::kBody;
  worker_.timers().arm(deadline_, scratch_.now + kHttpIdleTimeout);
  respond(http::serialize(response, request, HttpService::unix_seconds()),
          response.close || !request.keep_alive);
}

void Connection::begin_slow_answer(admin::SlowPage page, const http::Request& request) {
  setup_->served_before = true;
  setup_->ends_with_answer = !request.keep_alive || request.chunked || request.body_size != 0 ||
                             (page == admin::SlowPage::kTraffic && request.version < 11);
  // Until a login; the answer finds us by it.
  set_identity({.id = shared_.directory.next_id(), .key = {}});
  phase_ = Phase::kAnswer;
  worker_.park(*this);
  worker_.timers().arm(deadline_, scratch_.now + kHttpIdleTimeout);
  if (shared_.debug_desk.ask({.id = id(), .worker = worker_.index()}, page, request)) return;
  worker_.unpark(*this);
  respond(http::serialize_error(http::text_error(503, "too many debug pages are under way"),
                                HttpService::unix_seconds()),
          /*close_after=*/true);
}

void Connection::take_answer(std::string_view bytes, bool is_last) {
  if (phase_ != Phase::kAnswer) return;
  // Whoever did not take the piece before gets no other: what waits for it stays bounded.
  if (send_side_.stall(scratch_).blocked) return close(CloseReason::kTimeout);
  constexpr std::size_t kPieceSize = 64 * 1024;
  for (auto rest = as_bytes(bytes); !rest.empty();) {
    const auto piece = rest.first(std::min(rest.size(), kPieceSize));
    send_side_.send(piece, scratch_);
    rest = rest.subspan(piece.size());
  }
  worker_.timers().arm(deadline_, scratch_.now + kHttpIdleTimeout);
  if (!is_last) return;

  worker_.unpark(*this);
  phase_ = Phase::kHttp;
  if (setup_->ends_with_answer || send_side_.stall(scratch_).blocked) return finish();
  // What came meanwhile.
  take_input({});
  if (phase_ != Phase::kClosed) worker_.queue_again(*this);
}

void Connection::respond(const std::string& bytes, bool close_after) {
  send_side_.send(as_bytes(bytes), scratch_);
  // Who pipelines requests and does not read the answers gets no further ones.
  if (close_after || send_side_.stall(scratch_).blocked) finish();
}

void Connection::finish() {
  leave_tunnel();
  phase_ = Phase::kFinishing;
  worker_.timers().disarm(read_pause_);
  setup_.reset();
  if (send_side_.finish(scratch_) || !deadline_.is_armed())
    worker_.timers().arm(deadline_, scratch_.now + kLingerTimeout);
}

// --- CONNECT

bool Connection::asks_for_tunnel(const http::Request& request) const {
  return request.method == "CONNECT" && shared_.config.ace && shared_.tls != nullptr &&
         listener_ == ListenerKind::kMain;
}

void Connection::begin_tunnel(const http::Request& request) {
  using metrics::ConnectResult;
  const auto target = parse_connect_target(request.target);
  if (!target) {
    scratch_.counters.count(ConnectResult::kRefused);
    shared_.log_gated(LogCause::kConnect, LogLevel::kInfo, scratch_.now, [&] {
      return fmt::format("CONNECT {:?} of {} refused: {}", request.target, peer_.text(),
                         target.error());
    });
    return reply(http::text_error(403, "Invalid CONNECT target"), request);
  }
  ConnectTunnel::Client& client = *this;
  if (!tunnel_) tunnel_ = std::make_unique<ConnectTunnel>(worker_, client);
  if (!tunnel_->open(*target)) {
    scratch_.counters.count(ConnectResult::kBusy);
    shared_.log_gated(LogCause::kConnect, LogLevel::kWarn, scratch_.now, [&] {
      return fmt::format("CONNECT {:?} of {} refused: there are {} tunnels or {} look-ups already",
                         request.target, peer_.text(), shared_.tunnels.tunnels.max(),
                         shared_.tunnels.lookups.max());
    });
    return reply(http::text_error(503, "too many CONNECT tunnels"), request);
  }
  phase_ = Phase::kConnect;
  setup_->connect_request = request;
  // The tunnel has its own deadline.
  worker_.timers().disarm(deadline_);
}

void Connection::on_tunnel_open() {
  scratch_.counters.count(metrics::ConnectResult::kOpened);
  scratch_.counters.connect_tunnels.add();
  phase_ = Phase::kTunnel;
  setup_.reset();
  constexpr std::string_view kOpened = "HTTP/1.1 200 OK\r\n\r\n";
  send_side_.send(as_bytes(kOpened), scratch_);
  // What came meanwhile.
  take_input({});
  if (phase_ != Phase::kClosed) worker_.queue_again(*this);
}

void Connection::on_tunnel_failed(std::string_view why) {
  const http::Request request = std::move(setup_->connect_request);
  scratch_.counters.count(metrics::ConnectResult::kFailed);
  shared_.log_gated(LogCause::kConnect, LogLevel::kInfo, scratch_.now, [&] {
    return fmt::format("CONNECT {} of {} failed: {}", request.target, peer_.text(), why);
  });
  phase_ = Phase::kHttp;
  reply(http::text_error(502, "Connect failure"), request);
  take_input({});
  if (phase_ != Phase::kClosed) worker_.queue_again(*this);
}

bool Connection::on_tunnel_bytes(std::span<const std::uint8_t> bytes) {
  send_side_.send(bytes, scratch_);
  return !send_side_.stall(scratch_).blocked;
}

void Connection::on_tunnel_drained() {
  worker_.queue_again(*this);
}

/// What is on its way to the client still reaches it.
void Connection::on_tunnel_ended() {
  worker_.timers().arm(deadline_, scratch_.now + kTunnelLingerTimeout);
  finish();
}

/// Whether the client is not to be read: the target takes nothing, or nothing more will come.
bool Connection::tunnel_waits() const {
  return tunnel_->is_full() || tunnel_->client_ended();
}

void Connection::leave_tunnel() {
  if (phase_ == Phase::kTunnel) scratch_.counters.connect_tunnels.sub();
  if (tunnel_) tunnel_->close();
}

}  // namespace detour::server
