#include "load/relay_loop.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"
#include "derp/frame.h"

namespace detour::load {

namespace {

constexpr std::uint64_t kLoginTimeMaxNs = 60'000'000'000;
/// More at once would only wait in the server's backlog.
constexpr std::uint32_t kLoginsAtOnce = 64;
/// A pacer that has fallen behind catches up at most this far; the rest of the load is left out.
constexpr std::uint64_t kBacklogMaxNs = 10'000'000;
constexpr std::uint64_t kLossCheckNs = 20'000'000;
constexpr std::uint64_t kIdleWaitNs = 20'000'000;
/// A full TLS record; bulk senders wait until the window lets them fill one.
constexpr std::size_t kRecordSize = 16 * 1024;

}  // namespace

RelayLoop::RelayLoop(const ConnectionSettings& settings, const Traffic& traffic, bool spin,
                     std::uint64_t loss_after_ns, std::uint32_t first_source)
    : traffic_(traffic),
      spin_(spin),
      loss_after_ns_(loss_after_ns),
      first_source_(first_source),
      epoll_fd_(epoll_create1(EPOLL_CLOEXEC)),
      bulk_(std::max<std::size_t>(kRecordSize, 1)) {
  DETOUR_CHECK(epoll_fd_ >= 0);
  for (std::uint32_t i = 0; i < traffic.senders + traffic.receivers; ++i) {
    const auto key = crypto::NodePrivate::generate();
    connections_.push_back(std::make_unique<Connection>(settings, key, key.public_key()));
  }
  const std::uint32_t flows = std::max(traffic.senders, traffic.receivers);
  for (std::uint32_t i = 0; i < flows; ++i) {
    Connection* sender = connections_[i % traffic.senders].get();
    Connection* receiver = connections_[traffic.senders + i % traffic.receivers].get();
    flows_.push_back(std::make_unique<Flow>(i, sender, receiver, traffic));
  }
}

RelayLoop::~RelayLoop() {
  for (auto& connection : connections_) connection->close();
  close(epoll_fd_);
}

client::Outcome<bool> RelayLoop::log_in(const Watch& watch) {
  const std::uint64_t deadline = now_ns() + kLoginTimeMaxNs;
  for (std::size_t started = 0, open = 0; open < connections_.size();) {
    while (started < connections_.size() && started - open < kLoginsAtOnce) {
      const auto source = first_source_ + static_cast<std::uint32_t>(started);
      if (auto result = connections_[started++]->start(epoll_fd_, source); !result)
        return std::unexpected(result.error());
    }
    if (auto result = handle_events(kIdleWaitNs); !result) return std::unexpected(result.error());
    open = static_cast<std::size_t>(
        std::ranges::count_if(connections_, [](const auto& c) { return c->is_open(); }));
    if (watch && !watch({})) return false;
    if (now_ns() > deadline)
      return client::give_up(client::Layer::kLogin,
                             fmt::format("only {} of {} clients are logged in after {} s", open,
                                         connections_.size(), kLoginTimeMaxNs / 1'000'000'000));
  }
  return true;
}

void RelayLoop::run(const Schedule& schedule) {
  schedule_ = schedule;
  next_due_ns_ = now_ns();
  if (!is_paced()) {
    for (auto& flow : flows_) queue(flow.get());
  }
  for (std::uint64_t now = now_ns();
       now < schedule.measure_until && !stop_.load(std::memory_order_relaxed); now = now_ns()) {
    auto result = is_paced() ? send_due(now) : pump_queued();
    if (result) result = handle_events(time_to_wait(now));
    if (!result) {
      failure_ = result.error();
      has_failed_.store(true, std::memory_order_release);
      return;
    }
    if (now - last_loss_check_ns_ > kLossCheckNs) check_losses(now);
    delivered_.store(counts_.delivered, std::memory_order_relaxed);
    lost_.store(counts_.lost, std::memory_order_relaxed);
  }
}

void RelayLoop::add_to(Progress* progress) const {
  const std::uint64_t delivered = delivered_.load(std::memory_order_relaxed);
  progress->done += delivered;
  progress->bytes += delivered * traffic_.payload_bytes;
  progress->lost += lost_.load(std::memory_order_relaxed);
}

std::string RelayLoop::tls_name() const {
  return connections_.front()->is_open() ? connections_.front()->transport_name() : "";
}

void RelayLoop::queue(Flow* flow) {
  if (flow->is_queued || is_paced()) return;
  flow->is_queued = true;
  queued_.push_back(flow);
}

std::uint64_t RelayLoop::time_to_wait(std::uint64_t now) const {
  if (spin_) return 0;
  if (!is_paced()) return kIdleWaitNs;
  return next_due_ns_ > now ? std::min(next_due_ns_ - now, kIdleWaitNs) : 0;
}

client::Outcome<void> RelayLoop::handle_events(std::uint64_t wait_ns) {
  std::array<epoll_event, 64> events;
  const timespec timeout{.tv_sec = 0, .tv_nsec = static_cast<long>(wait_ns)};
  const int count =
      epoll_pwait2(epoll_fd_, events.data(), static_cast<int>(events.size()), &timeout, nullptr);
  for (int i = 0; i < count; ++i) {
    const auto& event = events[static_cast<std::size_t>(i)];
    auto* connection = static_cast<Connection*>(event.data.ptr);
    const auto result = connection->on_events(
        event.events, scratch_,
        [this](const client::Frame& frame, std::uint64_t now) { on_frame(frame, now); });
    if (!result) return result;
    if (event.events & EPOLLOUT) queue_flows_of(connection);
    if (auto pumped = pump_queued(); !pumped) return pumped;
  }
  return {};
}

void RelayLoop::on_frame(const client::Frame& frame, std::uint64_t now) {
  if (frame.type != derp::FrameType::kRecvPacket) return;
  const auto packet = derp::read_recv_packet(frame.payload);
  Stamp stamp{};
  if (!packet || packet->packet.size() < sizeof stamp) {
    ++counts_.corrupt;
    return;
  }
  std::memcpy(&stamp, packet->packet.data(), sizeof stamp);
  if (stamp.magic != kStampMagic || stamp.flow >= flows_.size()) {
    ++counts_.corrupt;
    return;
  }
  Flow* flow = flows_[stamp.flow].get();
  flow->arrived(*packet, stamp, now, schedule_.counts(now), &counts_);
  queue(flow);
}

void RelayLoop::queue_flows_of(const Connection* sender) {
  if (is_paced() || schedule_.measure_until == 0) return;
  for (auto& flow : flows_) {
    if (flow->sender() == sender) queue(flow.get());
  }
}

client::Outcome<void> RelayLoop::pump_queued() {
  for (std::size_t i = 0; i < queued_.size(); ++i) {
    queued_[i]->is_queued = false;
    if (auto result = pump(queued_[i]); !result) return result;
  }
  queued_.clear();
  return {};
}

client::Outcome<void> RelayLoop::pump(Flow* flow) {
  Connection* sender = flow->sender();
  if (sender->is_blocked()) return {};
  if (traffic_.packing == Packing::kBulk) return pump_bulk(flow);
  while (flow->room() > 0) {
    if (auto result = sender->seal(flow->make_frame()); !result) return result;
    if (traffic_.packing == Packing::kCoalesce) continue;
    if (auto result = sender->flush(); !result) return result;
    if (sender->is_blocked()) return {};
  }
  return sender->flush();
}

client::Outcome<void> RelayLoop::pump_bulk(Flow* flow) {
  const std::size_t full_record = std::max<std::size_t>(1, kRecordSize / flow->frame_size());
  if (flow->room() < std::min<std::size_t>(full_record, traffic_.window)) return {};
  bulk_.clear();
  while (flow->room() > 0) {
    const auto frame = flow->make_frame();
    bulk_.insert(bulk_.end(), frame.begin(), frame.end());
  }
  if (auto result = flow->sender()->seal(bulk_); !result) return result;
  return flow->sender()->flush();
}

client::Outcome<void> RelayLoop::send_due(std::uint64_t now) {
  const double interval_ns = 1e9 / traffic_.packets_per_second;
  if (now > next_due_ns_ + kBacklogMaxNs) next_due_ns_ = now - kBacklogMaxNs;
  while (next_due_ns_ <= now) {
    Flow* flow = flows_[turn_++ % flows_.size()].get();
    due_fraction_ += interval_ns;
    next_due_ns_ += static_cast<std::uint64_t>(due_fraction_);
    due_fraction_ -= static_cast<double>(static_cast<std::uint64_t>(due_fraction_));
    if (flow->room() == 0 || flow->sender()->is_blocked()) {
      if (schedule_.counts(now)) ++counts_.skipped;
      continue;
    }
    if (auto result = flow->sender()->seal(flow->make_frame()); !result) return result;
    if (auto result = flow->sender()->flush(); !result) return result;
  }
  return {};
}

void RelayLoop::check_losses(std::uint64_t now) {
  last_loss_check_ns_ = now;
  for (auto& flow : flows_) {
    flow->give_up_before(now - loss_after_ns_, schedule_.counts(now), &counts_);
    queue(flow.get());
  }
}

}  // namespace detour::load
