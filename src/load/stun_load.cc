#include "load/stun_load.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "load/histogram.h"
#include "stun/stun.h"

namespace detour::load {

namespace {

constexpr std::uint32_t kBatchMax = 64;
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
  [[nodiscard]] std::uint32_t in_flight() const { return in_flight_; }

  /// Sends what the window allows, `requests_max` at most. Gives how many those were.
  std::uint32_t fill_window(std::uint32_t requests_max) {
    std::uint32_t sent = 0;
    while (in_flight_ < window_ && sent < requests_max) {
      const std::uint32_t count = std::min({kBatchMax, window_ - in_flight_, requests_max - sent});
      if (!send_requests(count)) return sent;
      sent += count;
    }
    return sent;
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

  bool send_requests(std::uint32_t count) {
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

/// More than any number of requests in flight.
constexpr std::uint32_t kDueMax = 1'000'000;
/// What comes later, after an evenly paced load, is lost.
constexpr std::uint64_t kDrainNs = 2'000'000'000;

/// How many requests are due after `elapsed_ns` in all; so many that it does not matter without a
/// rate.
std::uint64_t due_by(std::uint64_t elapsed_ns, double requests_per_second) {
  if (requests_per_second <= 0) return std::numeric_limits<std::uint64_t>::max();
  return 1 + static_cast<std::uint64_t>(seconds_of(elapsed_ns) * requests_per_second);
}

using Sockets = std::vector<std::unique_ptr<StunSocket>>;

/// Waits for what is on its way, and counts what does not come as lost.
void drain(const Sockets& sockets, std::vector<pollfd>* polled, Totals* totals) {
  const auto in_flight = [&sockets] {
    std::uint64_t sum = 0;
    for (const auto& socket : sockets) sum += socket->in_flight();
    return sum;
  };
  const std::uint64_t until = now_ns() + kDrainNs;
  while (in_flight() > 0 && now_ns() < until) {
    (void)poll(polled->data(), polled->size(), 5);
    for (std::size_t i = 0; i < sockets.size(); ++i) {
      if ((*polled)[i].revents != 0) sockets[i]->receive(totals);
    }
  }
  totals->lost += in_flight();
}

/// Runs for `time`. `*goes_on` becomes false when the watch ends it before.
Totals run_for(const Sockets& sockets, std::chrono::milliseconds time, const StunOptions& options,
               bool* goes_on) {
  Totals totals;
  std::vector<pollfd> polled;
  for (const auto& socket : sockets)
    polled.push_back({.fd = socket->fd(), .events = POLLIN, .revents = 0});
  std::uint64_t now = now_ns();
  const std::uint64_t start = now;
  const auto whole = static_cast<std::uint64_t>(std::chrono::nanoseconds(time).count());
  const bool is_paced = options.requests_per_second > 0;
  std::uint64_t sent = 0;
  for (std::size_t turn = 0; *goes_on && now < start + whole; ++turn) {
    for (std::size_t i = 0; i < sockets.size(); ++i) {
      const std::uint64_t due = due_by(now - start, options.requests_per_second);
      const auto room = static_cast<std::uint32_t>(std::min<std::uint64_t>(kDueMax, due - sent));
      sent += sockets[(turn + i) % sockets.size()]->fill_window(room);
    }
    (void)poll(polled.data(), polled.size(), is_paced ? 5 : 20);
    now = now_ns();
    for (std::size_t i = 0; i < sockets.size(); ++i) {
      if (polled[i].revents != 0) sockets[i]->receive(&totals);
      if (!is_paced) sockets[i]->give_up_lost(now, &totals);
    }
    const Progress progress{.seconds = seconds_of(now - start),
                            .done = totals.answers,
                            .lost = totals.lost,
                            .seconds_whole = seconds_of(whole)};
    if (options.watch) *goes_on = options.watch(progress);
  }
  if (is_paced) drain(sockets, &polled, &totals);
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
    const std::uint32_t window = options.requests_per_second > 0
                                     ? kDueMax
                                     : std::max(1U, options.in_flight / options.sockets);
    sockets.push_back(std::make_unique<StunSocket>(fd, window));
  }

  bool goes_on = true;
  if (options.requests_per_second <= 0) (void)run_for(sockets, options.warm_up, options, &goes_on);
  Usage usage(server);
  const Totals totals = run_for(sockets, options.duration, options, &goes_on);
  usage.stop();
  if (totals.answers == 0 && goes_on)
    return client::give_up(client::Layer::kAddress, "no STUN answer came from there");

  Report report;
  report["mode"] = "stun";
  report["in_flight"] = options.in_flight;
  if (!goes_on) report["stopped"] = true;
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

}  // namespace detour::load
