#include "load/storm_load.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/check.h"
#include "derp/frame.h"
#include "load/histogram.h"

namespace detour::load {

namespace {

/// At the beginning. Later all come at once.
constexpr std::uint32_t kLoginsAtOnce = 64;
constexpr std::uint64_t kTickNs = 10'000'000;
/// Whoever was refused tries again so much later.
constexpr std::uint64_t kRetryNs = 50'000'000;
/// Whoever has heard nothing of its packet sends another.
constexpr std::uint64_t kResendNs = 100'000'000;

/// The clients and what they wait for. One thread.
class Storm {
 public:
  explicit Storm(const StormOptions& options)
      : settings_(options.connection), epoll_fd_(epoll_create1(EPOLL_CLOEXEC)) {
    DETOUR_CHECK(epoll_fd_ >= 0);
    clients_.resize(std::size_t{2} * options.pairs);
    for (auto& client : clients_) {
      client.key = crypto::NodePrivate::generate();
      client.public_key = client.key.public_key();
    }
  }
  ~Storm() {
    for (auto& client : clients_) {
      if (client.connection) client.connection->close();
    }
    close(epoll_fd_);
  }
  Storm(const Storm&) = delete;
  Storm& operator=(const Storm&) = delete;

  /// Everybody is in, and every pair has relayed a packet.
  [[nodiscard]] client::Outcome<void> begin(std::uint64_t deadline) {
    for (std::size_t next = 0; relaying_ < pairs();) {
      while (next < clients_.size() && next - open_ < kLoginsAtOnce) start(next++);
      turn();
      if (lost_ > 0) return std::unexpected(*failure_);
      if (now_ns() > deadline) return too_late("relayed at first");
    }
    return {};
  }

  /// Waits for the end of all connections, and until every pair relays again.
  [[nodiscard]] client::Outcome<void> come_back(std::uint64_t deadline) {
    for (auto& client : clients_) client.relays = false;
    relaying_ = 0;
    is_storm_ = true;
    while (relaying_ < pairs()) {
      turn();
      if (now_ns() > deadline) return too_late("relayed again");
    }
    return {};
  }

  void add_to(Report* report) const {
    (*report)["clients"] = clients_.size();
    (*report)["connections_lost"] = lost_;
    (*report)["down_s"] = seconds_of(first_connect_ns_ - first_loss_ns_);
    (*report)["first_login_s"] = seconds_of(first_login_ns_ - first_connect_ns_);
    (*report)["recovery_s"] = seconds_of(last_relay_ns_ - first_connect_ns_);
    (*report)["refused"] = refused_;
    (*report)["pair_recovery_us"] = latency_report(recoveries_);
  }

 private:
  /// The clients 2n and 2n+1 are a pair; the even one sends.
  struct Client {
    crypto::NodePrivate key;
    crypto::NodePublic public_key;
    std::unique_ptr<Connection> connection;
    std::uint64_t start_at_ns = 0;  ///< Without a connection: when to try again; 0: not at all.
    std::uint64_t sent_ns = 0;
    bool is_open = false;
    bool relays = false;    ///< Of a sender: the other one has got its packet.
    bool was_lost = false;  ///< Its connection has ended since the storm began.
  };

  [[nodiscard]] std::size_t pairs() const { return clients_.size() / 2; }

  [[nodiscard]] std::unexpected<client::Failure> too_late(std::string_view what) const {
    return client::give_up(
        client::Layer::kRelay,
        fmt::format("in time only {} of {} pairs {}{}", relaying_, pairs(), what,
                    failure_ ? "; the last connection that failed: " + failure_->text() : ""));
  }

  void start(std::size_t index) {
    auto& client = clients_[index];
    client.start_at_ns = 0;
    client.connection = std::make_unique<Connection>(settings_, client.key, client.public_key);
    index_of_[client.connection.get()] = index;
    if (auto result = client.connection->start(epoll_fd_, static_cast<std::uint32_t>(index));
        !result)
      lose(index, result.error());
  }

  /// Notes that a connection has failed; after the events at hand it makes way for another.
  void lose(std::size_t index, const client::Failure& failure) {
    failure_ = failure;
    ended_.push_back(index);
  }

  void turn() {
    std::array<epoll_event, 64> events;
    const timespec timeout{.tv_sec = 0, .tv_nsec = static_cast<long>(kTickNs)};
    const int count =
        epoll_pwait2(epoll_fd_, events.data(), static_cast<int>(events.size()), &timeout, nullptr);
    for (int i = 0; i < count; ++i) handle(events[static_cast<std::size_t>(i)]);
    end_lost();
    const std::uint64_t now = now_ns();
    if (now < next_look_ns_) return;
    next_look_ns_ = now + kTickNs;
    for (std::size_t i = 0; i < clients_.size(); ++i) {
      if (clients_[i].start_at_ns != 0 && clients_[i].start_at_ns <= now) start(i);
      if (i % 2 == 0) send_if_due(i, now);
    }
    end_lost();
  }

  void handle(const epoll_event& event) {
    const auto found = index_of_.find(static_cast<Connection*>(event.data.ptr));
    if (found == index_of_.end()) return;
    const std::size_t index = found->second;
    auto& client = clients_[index];
    const auto result = client.connection->on_events(
        event.events, scratch_,
        [&](const client::Frame& frame, std::uint64_t now) { on_frame(index, frame, now); });
    if (is_storm_ && first_connect_ns_ == 0 && client.was_lost && client.connection->is_connected())
      first_connect_ns_ = now_ns();
    if (!result) {
      lose(index, result.error());
      return;
    }
    if (client.is_open || !client.connection->is_open()) return;
    client.is_open = true;
    ++open_;
    const std::uint64_t now = now_ns();
    if (is_storm_ && first_login_ns_ == 0) first_login_ns_ = now;
    send_if_due(index - index % 2, now);
  }

  void on_frame(std::size_t index, const client::Frame& frame, std::uint64_t now) {
    if (frame.type != derp::FrameType::kRecvPacket || index % 2 == 0) return;
    auto& sender = clients_[index - 1];
    // What was on its way before the end does not count.
    if (sender.relays || (is_storm_ && !(sender.was_lost && clients_[index].was_lost))) return;
    sender.relays = true;
    ++relaying_;
    last_relay_ns_ = now;
    if (is_storm_) recoveries_.add(now - std::min(now, first_connect_ns_));
  }

  void send_if_due(std::size_t index, std::uint64_t now) {
    auto& sender = clients_[index];
    const auto& receiver = clients_[index + 1];
    if (!sender.is_open || !receiver.is_open || sender.relays || now < sender.sent_ns + kResendNs)
      return;
    if (is_storm_ && !sender.was_lost) return;
    sender.sent_ns = now;
    std::array<std::uint8_t, derp::kRecvPacketHeadSize + 32> frame{};
    derp::write_send_packet_head(std::span(frame).first<derp::kRecvPacketHeadSize>(),
                                 receiver.public_key, 32);
    auto result = sender.connection->seal(frame);
    if (result) result = sender.connection->flush();
    if (!result) lose(index, result.error());
  }

  void end_lost() {
    const std::uint64_t now = now_ns();
    for (const std::size_t index : ended_) {
      auto& client = clients_[index];
      if (!client.connection) continue;  // Was noted twice.
      if (client.is_open) {
        --open_;
        ++lost_;
        if (first_loss_ns_ == 0) first_loss_ns_ = now;
      }
      const bool at_once = client.is_open;
      // The server was there, and closed the connection or let it wait for too long.
      if (!client.is_open && client.connection->is_connected()) ++refused_;
      client.is_open = false;
      client.was_lost = true;
      client.sent_ns = 0;
      index_of_.erase(client.connection.get());
      client.connection.reset();
      client.start_at_ns = at_once ? now : now + kRetryNs;
    }
    ended_.clear();
  }

  const ConnectionSettings settings_;
  const int epoll_fd_;
  Scratch scratch_;
  std::vector<Client> clients_;
  std::unordered_map<Connection*, std::size_t> index_of_;
  std::vector<std::size_t> ended_;  ///< Connections to be given up after this turn's events.
  std::optional<client::Failure> failure_;
  std::size_t open_ = 0;
  std::size_t relaying_ = 0;  ///< Pairs.
  std::uint64_t lost_ = 0;    ///< Connections that were open.
  std::uint64_t refused_ = 0;
  bool is_storm_ = false;
  std::uint64_t next_look_ns_ = 0;
  std::uint64_t first_loss_ns_ = 0;
  std::uint64_t first_connect_ns_ = 0;
  std::uint64_t first_login_ns_ = 0;
  std::uint64_t last_relay_ns_ = 0;
  Histogram recoveries_;
};

}  // namespace

client::Outcome<Report> run_storm(const StormOptions& options,
                                  const std::function<void()>& on_ready) {
  const auto time_max =
      static_cast<std::uint64_t>(std::chrono::nanoseconds(options.time_max).count());
  Storm storm(options);
  if (auto result = storm.begin(now_ns() + time_max); !result)
    return std::unexpected(result.error());
  on_ready();
  if (auto result = storm.come_back(now_ns() + time_max); !result)
    return std::unexpected(result.error());
  Report report;
  report["mode"] = "storm";
  storm.add_to(&report);
  return report;
}

}  // namespace detour::load
