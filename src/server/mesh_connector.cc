#include "server/mesh_connector.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "net/socket.h"
#include "server/worker.h"

namespace detour::server {

namespace {

using client::Failure;
using client::Layer;
using client::TlsProblem;

// The pause between attempts doubles from the first to the second, the reference's only one.
constexpr Duration kPauseMin = std::chrono::milliseconds(250);
constexpr Duration kPauseMax = std::chrono::seconds(5);
/// How many unsent bytes the kernel holds before it calls a link full.
constexpr int kNotSentLowWater = 256 * 1024;

/// What the operator can do about it.
std::string_view remedy(const Failure& failure) {
  switch (failure.tls_problem) {
    case TlsProblem::kSelfSigned:
    case TlsProblem::kUnknownIssuer:
      return "; mesh links need a certificate that this machine trusts: for a CA of your own set "
             "SSL_CERT_FILE to its certificate";
    case TlsProblem::kWrongName:
      return "; name the peer as its certificate does, and write host/address to dial another "
             "address";
    default:
      return {};
  }
}

}  // namespace

MeshConnector::MeshConnector(Worker& worker, MeshTarget target, const client::TlsContext& tls)
    : worker_(worker),
      target_(std::move(target)),
      tls_(tls),
      pause_(kPauseMin),
      gate_(/*burst=*/3, std::chrono::seconds(60)),
      jitter_(std::random_device{}()) {}

MeshConnector::~MeshConnector() = default;

void MeshConnector::begin() {
  if (stopped_) return;
  lookup_ =
      std::make_unique<Lookup>(target_.dial_host, target_.port, [this](Lookup::Answer answer) {
        worker_.post(
            [this, answer = std::move(answer)]() mutable { on_answer(std::move(answer)); });
      });
}

void MeshConnector::stop() {
  stopped_ = true;
  lookup_.reset();
  addresses_.clear();
  worker_.timers().disarm(timer_);
  if (MeshLink* const link = std::exchange(link_, nullptr)) link->close();
}

void MeshConnector::remove() {
  // A link to ourselves was taken off the count when it was found out.
  if (!stopped_) worker_.shared().mesh_links.fetch_sub(1, std::memory_order_relaxed);
  stop();
  worker_.shared().log.info(
      fmt::format("mesh peer {}: not in the list any more, the link is closed", target_.name));
}

void MeshConnector::begin_again() {
  stopped_ = false;
  pause_ = kPauseMin;
  begin();
}

void MeshConnector::reconnect() {
  if (stopped_) return;
  stop();
  stopped_ = false;
  pause_ = kPauseMin;
  worker_.timers().arm(timer_, worker_.scratch().now + pause_);
}

void MeshConnector::on_timer(TimePoint /*now*/) {
  begin();
}

void MeshConnector::on_answer(Lookup::Answer answer) {
  if (stopped_) return;
  lookup_.reset();
  if (!answer) {
    last_failure_ = {.layer = Layer::kAddress, .message = answer.error()};
    return wait_for_next_attempt();
  }
  addresses_.assign(answer->begin(), answer->end());
  try_next_address();
}

void MeshConnector::try_next_address() {
  while (!addresses_.empty()) {
    const net::SocketAddress address = addresses_.front();
    addresses_.pop_front();
    if (try_address(address)) return;
  }
  wait_for_next_attempt();
}

bool MeshConnector::try_address(const net::SocketAddress& address) {
  const config::Config& config = worker_.shared().config;
  auto fd = net::begin_connect_tcp(address, {.keepalive_idle = config.tcp_keepalive_time,
                                             .user_timeout = config.tcp_user_timeout,
                                             .not_sent_low_water = kNotSentLowWater});
  if (!fd) {
    last_failure_ = {.layer = Layer::kTcp, .message = fd.error()};
    return false;
  }
  auto link = std::make_unique<MeshLink>(*this, worker_, std::move(*fd), address);
  if (!link->start()) {
    last_failure_ = {.layer = Layer::kTcp,
                     .message = fmt::format("cannot watch a socket for {}: {}", address.text(),
                                            std::strerror(errno))};
    return false;
  }
  link_ = link.release();  // Retires itself when it closes.
  return true;
}

void MeshConnector::wait_for_next_attempt() {
  if (stopped_) return;
  worker_.scratch().counters.mesh_link_failures.add();
  log_failure(last_failure_);
  // Jitter, so that relays that lost the same peer do not come back in one moment.
  const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(pause_).count();
  std::uniform_int_distribution<std::int64_t> spread(milliseconds * 3 / 4, milliseconds * 5 / 4);
  worker_.timers().arm(timer_, worker_.scratch().now + std::chrono::milliseconds(spread(jitter_)));
  pause_ = std::min(2 * pause_, kPauseMax);
}

void MeshConnector::log_failure(const Failure& failure) {
  std::uint64_t suppressed = 0;
  if (!gate_.admit(worker_.scratch().now, &suppressed)) return;
  std::string message = fmt::format("mesh peer {}: no link: {}{}; trying again", target_.name,
                                    failure.text(), remedy(failure));
  if (suppressed != 0) message += fmt::format(" ({} more like this were not logged)", suppressed);
  worker_.shared().log.warn(message);
}

void MeshConnector::on_watching(const MeshLink& link) {
  pause_ = kPauseMin;
  addresses_.clear();
  worker_.shared().log.info(fmt::format("mesh peer {}: linked with {} {}", target_.name,
                                        link.address().text(), link.key().short_text()));
}

void MeshConnector::on_failed(const MeshLink& link, Failure failure, bool was_watching) {
  if (link_ != &link) return;
  link_ = nullptr;
  last_failure_ = std::move(failure);
  if (was_watching) addresses_.clear();
  try_next_address();
}

void MeshConnector::on_ourselves() {
  link_ = nullptr;
  stopped_ = true;
  addresses_.clear();
  worker_.shared().mesh_links.fetch_sub(1, std::memory_order_relaxed);
  worker_.shared().log.info(
      fmt::format("mesh peer {}: is this relay itself, so no link is needed", target_.name));
}

std::optional<admin::MeshStatus> MeshConnector::status() {
  if (stopped_) return std::nullopt;
  admin::MeshStatus status{.name = target_.name};
  if (link_ != nullptr && link_->is_up()) {
    const SendSide::Facts facts = link_->send_side().facts(worker_.scratch());
    status.is_up = true;
    status.address = link_->address().text();
    status.key = link_->key().typed();
    status.sent_packets = facts.sent_packets;
    status.sent_bytes = facts.sent_bytes;
    status.evicted_packets = facts.evicted_packets;
  } else {
    status.last_failure = last_failure_.text();
  }
  return status;
}

void MeshConnector::post_watch_write() {
  worker_.post([this] {
    if (link_ != nullptr) link_->watch_write(worker_.scratch().now);
  });
}

}  // namespace detour::server
