#include "bench/stun_load.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "bench/histogram.h"
#include "stun/stun.h"

namespace detour::bench {

namespace {

constexpr std::size_t kBatchMax = 64;
/// A socket that has heard nothing for so long counts its requests as lost and asks anew.
constexpr std::uint64_t kLostAfterNs = 200'000'000;

struct Totals {
  std::uint64_t answers = 0;
  std::uint64_t wrong = 0;
  std::uint64_t lost = 0;
  Histogram round_trips;
};

/// One UDP socket with a fixed number of requests in flight. The transaction id holds the time of
/// sending, so an answer tells its own round trip.
class StunSocket {
 public:
  StunSocket(int fd, std::uint32_t in_flight) : fd_(fd), window_(in_flight) {}
  ~StunSocket() { close(fd_); }
  StunSocket(const StunSocket&) = delete;
  StunSocket& operator=(const StunSocket&) = delete;

  [[nodiscard]] int fd() const { return fd_; }

  void fill_window() {
    while (in_flight_ < window_) {
      const std::size_t count = std::min<std::size_t>(kBatchMax, window_ - in_flight_);
      if (!send_requests(count)) return;
    }
  }

  void receive(Totals* totals) {
    std::array<std::array<std::uint8_t, 128>, kBatchMax> buffers;
    std::array<iovec, kBatchMax> parts;
    std::array<mmsghdr, kBatchMax> messages{};
    for (std::size_t i = 0; i < kBatchMax; ++i) {
      parts[i] = {.iov_base = buffers[i].data(), .iov_len = buffers[i].size()};
      messages[i].msg_hdr.msg_iov = &parts[i];
      messages[i].msg_hdr.msg_iovlen = 1;
    }
    const int count = recvmmsg(fd_, messages.data(), kBatchMax, MSG_DONTWAIT, nullptr);
    const std::uint64_t now = now_ns();
    for (std::size_t i = 0; count > 0 && i < static_cast<std::size_t>(count); ++i) {
      handle(std::span(buffers[i]).first(messages[i].msg_len), now, totals);
    }
    if (count > 0) last_heard_ns_ = now;
  }

  void give_up_lost(std::uint64_t now, Totals* totals) {
    if (now < last_heard_ns_ + kLostAfterNs) return;
    totals->lost += in_flight_;
    in_flight_ = 0;
    last_heard_ns_ = now;
  }

 private:
  void handle(std::span<const std::uint8_t> datagram, std::uint64_t now, Totals* totals) {
    const auto mapped = stun::parse_response(datagram);
    if (!mapped) {
      ++totals->wrong;
      return;
    }
    std::uint64_t sent_ns = 0;
    std::memcpy(&sent_ns, mapped->id.data(), sizeof sent_ns);
    if (in_flight_ > 0) --in_flight_;
    ++totals->answers;
    if (now > sent_ns) totals->round_trips.add(now - sent_ns);
  }

  bool send_requests(std::size_t count) {
    std::array<std::array<std::uint8_t, stun::kRequestSize>, kBatchMax> requests;
    std::array<iovec, kBatchMax> parts;
    std::array<mmsghdr, kBatchMax> messages{};
    const std::uint64_t now = now_ns();
    for (std::size_t i = 0; i < count; ++i) {
      stun::TransactionId id{};
      std::memcpy(id.data(), &now, sizeof now);
      const std::uint32_t serial = serial_++;
      std::memcpy(id.data() + sizeof now, &serial, sizeof serial);
      requests[i] = stun::encode_request(id);
      parts[i] = {.iov_base = requests[i].data(), .iov_len = requests[i].size()};
      messages[i].msg_hdr.msg_iov = &parts[i];
      messages[i].msg_hdr.msg_iovlen = 1;
    }
    const int sent = sendmmsg(fd_, messages.data(), static_cast<unsigned>(count), MSG_DONTWAIT);
    if (sent <= 0) return false;
    in_flight_ += static_cast<std::uint32_t>(sent);
    return true;
  }

  const int fd_;
  const std::uint32_t window_;
  std::uint32_t in_flight_ = 0;
  std::uint32_t serial_ = 0;
  std::uint64_t last_heard_ns_ = now_ns();
};

using Sockets = std::vector<std::unique_ptr<StunSocket>>;

Totals run_for(const Sockets& sockets, std::chrono::milliseconds time) {
  Totals totals;
  std::vector<pollfd> polled;
  for (const auto& socket : sockets)
    polled.push_back({.fd = socket->fd(), .events = POLLIN, .revents = 0});
  std::uint64_t now = now_ns();
  const std::uint64_t end =
      now + static_cast<std::uint64_t>(std::chrono::nanoseconds(time).count());
  while (now < end) {
    for (const auto& socket : sockets) socket->fill_window();
    (void)poll(polled.data(), polled.size(), 20);
    now = now_ns();
    for (std::size_t i = 0; i < sockets.size(); ++i) {
      if (polled[i].revents != 0) sockets[i]->receive(&totals);
      sockets[i]->give_up_lost(now, &totals);
    }
  }
  return totals;
}

}  // namespace

client::Outcome<Report> run_stun(const StunOptions& options, const ServerProcess& server) {
  Sockets sockets;
  for (std::uint32_t i = 0; i < options.sockets; ++i) {
    const int fd = options.target->connect(SOCK_DGRAM, i);
    if (fd < 0)
      return client::give_up(client::Layer::kAddress,
                             fmt::format("UDP socket: {}", std::strerror(errno)));
    const std::uint32_t window = std::max(1U, options.in_flight / options.sockets);
    sockets.push_back(std::make_unique<StunSocket>(fd, window));
  }

  (void)run_for(sockets, options.warm_up);
  Usage usage(server);
  const Totals totals = run_for(sockets, options.duration);
  usage.stop();
  if (totals.answers == 0)
    return client::give_up(client::Layer::kAddress, "no STUN answer came from there");

  Report report;
  report["mode"] = "stun";
  report["in_flight"] = options.in_flight;
  report["answers"] = totals.answers;
  report["answers_per_s"] = static_cast<double>(totals.answers) / usage.seconds();
  report["lost"] = totals.lost;
  report["wrong"] = totals.wrong;
  report["round_trip_us"] = latency_report(totals.round_trips);
  usage.add_to(&report);
  if (server.is_watched())
    report["server_cpu_us_per_answer"] =
        usage.server_cpu_seconds() * 1e6 / static_cast<double>(totals.answers);
  return report;
}

}  // namespace detour::bench
