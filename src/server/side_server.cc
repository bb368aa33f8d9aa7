#include "server/side_server.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "net/socket.h"

namespace detour::server {
namespace {

std::int64_t unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

bool would_block() {
  return errno == EAGAIN || errno == EINTR;
}

}  // namespace

/// One connection: reads a request, writes the answer, waits for the peer to close.
class SideServer::Client {
 public:
  Client(net::UniqueFd fd, const net::SocketAddress& peer, TimePoint deadline)
      : fd_(std::move(fd)), peer_(peer), deadline_(deadline) {}

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] TimePoint deadline() const { return deadline_; }
  [[nodiscard]] short events() const { return output_.empty() ? POLLIN : POLLOUT; }

  /// Goes on as far as the socket allows. False when the connection is over.
  [[nodiscard]] bool proceed(const Options& options) {
    if (!output_.empty()) return write();
    return is_answered_ ? drain() : read(options);
  }

 private:
  bool read(const Options& options) {
    std::array<char, 4096> buffer{};
    const ssize_t count = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (count < 0) return would_block();
    if (count == 0) return false;
    input_.append(buffer.data(), static_cast<std::size_t>(count));

    return head_ ? take_body(options) : take_head(options);
  }

  bool take_head(const Options& options) {
    auto parsed =
        http::parse_request({reinterpret_cast<const std::uint8_t*>(input_.data()), input_.size()});
    if (!parsed) {
      const unsigned status = parsed.error().code == ErrorCode::kHttpHeadTooLarge ? 431 : 400;
      output_ = http::serialize_error(http::text_error(status, http::reason_phrase(status)),
                                      unix_seconds());
      return write();
    }
    if (!*parsed) return true;  // The head goes on.
    head_ = std::move((*parsed)->request);
    input_.erase(0, (*parsed)->head_size);
    return take_body(options);
  }

  bool take_body(const Options& options) {
    if (const auto refused = options.refuse ? options.refuse(fd_.get()) : std::nullopt)
      return say(http::text_error(403, *refused));
    std::string_view body;
    if (options.body_max > 0) {
      if (head_->chunked)
        return say(http::text_error(411, "send the body with its Content-Length"));
      if (head_->body_size > options.body_max)
        return say(http::text_error(
            413, fmt::format("the body is larger than {} bytes", options.body_max)));
      if (input_.size() < head_->body_size) return true;  // The body goes on.
      body = std::string_view(input_).substr(0, head_->body_size);
    }
    return say(options.answer({.request = *head_, .peer = peer_, .body = body}));
  }

  bool say(http::Response response) {
    response.close = true;
    output_ = http::serialize(response, *head_, unix_seconds());
    input_.clear();
    return write();
  }

  bool write() {
    const ssize_t count = ::send(fd_.get(), output_.data(), output_.size(), MSG_NOSIGNAL);
    if (count < 0) return would_block();
    output_.erase(0, static_cast<std::size_t>(count));
    if (!output_.empty()) return true;
    // Closing while input lies unread would reset the connection, and the peer might lose the end.
    is_answered_ = true;
    return ::shutdown(fd_.get(), SHUT_WR) == 0;
  }

  bool drain() {
    std::array<char, 4096> buffer{};
    const ssize_t count = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    return count > 0 || (count < 0 && would_block());
  }

  net::UniqueFd fd_;
  net::SocketAddress peer_;
  TimePoint deadline_;
  std::optional<http::Request> head_;  ///< Once it is there.
  /// The head at most http::kRequestHeadMax and one read more, then the body and as much.
  std::string input_;
  std::string output_;  ///< What is left of the answer.
  bool is_answered_ = false;
};

class SideServer::Loop {
 public:
  Loop(int listener, int stop, Options options)
      : listener_(listener),
        stop_(stop),
        options_(std::move(options)),
        next_tick_(options_.tick ? Clock::now() + options_.tick_period : TimePoint::max()) {}

  void run() {
    for (;;) {
      std::vector<pollfd> watched = {{.fd = stop_, .events = POLLIN, .revents = 0}};
      // Without a place for it, a new connection waits in the kernel.
      const bool has_place = clients_.size() < kConnectionsMax;
      watched.push_back({.fd = has_place ? listener_ : -1, .events = POLLIN, .revents = 0});
      for (const auto& client : clients_)
        watched.push_back({.fd = client->fd(), .events = client->events(), .revents = 0});

      if (::poll(watched.data(), watched.size(), milliseconds_to_next()) < 0 && errno != EINTR)
        return;
      if (watched[0].revents != 0) return;
      serve(std::span(watched).subspan(2));
      if (watched[1].revents != 0) accept();
      tick();
    }
  }

 private:
  [[nodiscard]] int milliseconds_to_next() const {
    TimePoint first = next_tick_;
    for (const auto& client : clients_) first = std::min(first, client->deadline());
    if (first == TimePoint::max()) return -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(first - Clock::now());
    return static_cast<int>(std::max<std::int64_t>(left.count(), 0));
  }

  void tick() {
    const TimePoint now = Clock::now();
    if (now < next_tick_) return;
    options_.tick();
    next_tick_ = std::max(next_tick_ + options_.tick_period, now);
  }

  void serve(std::span<const pollfd> results) {
    std::vector<std::unique_ptr<Client>> kept;
    for (std::size_t i = 0; i < clients_.size(); ++i) {
      const bool alive = results[i].revents == 0 || clients_[i]->proceed(options_);
      if (alive && Clock::now() < clients_[i]->deadline()) kept.push_back(std::move(clients_[i]));
    }
    clients_ = std::move(kept);
  }

  void accept() {
    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
    net::UniqueFd fd(::accept4(listener_, reinterpret_cast<sockaddr*>(&storage), &size,
                               SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd) {
      clients_.push_back(std::make_unique<Client>(std::move(fd), net::SocketAddress::from(storage),
                                                  Clock::now() + options_.timeout));
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      // The listener stays readable: a pause keeps this thread from spinning until there is room.
      pollfd stop{.fd = stop_, .events = POLLIN, .revents = 0};
      constexpr int kPauseMilliseconds = 100;
      ::poll(&stop, 1, kPauseMilliseconds);
    }
  }

  const int listener_;
  const int stop_;
  const Options options_;
  TimePoint next_tick_;
  std::vector<std::unique_ptr<Client>> clients_;
};

std::expected<std::unique_ptr<SideServer>, std::string> SideServer::start(Options options) {
  std::unique_ptr<SideServer> server(new SideServer);
  if (options.listener) {
    server->listener_ = std::move(options.listener);
  } else {
    auto listener = net::listen_tcp(options.address, {});
    if (!listener) return std::unexpected(listener.error());
    server->listener_ = std::move(*listener);
  }
  server->stop_ = net::UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!server->stop_) return std::unexpected("cannot watch sockets: out of descriptors");
  server->thread_ = std::thread(
      [listener = server->listener_.get(), stop = server->stop_.get(),
       options = std::move(options)]() mutable { Loop(listener, stop, std::move(options)).run(); });
  return server;
}

SideServer::~SideServer() {
  if (!thread_.joinable()) return;
  ::eventfd_write(stop_.get(), 1);
  thread_.join();
}

net::SocketAddress SideServer::address() const {
  return net::local_address(listener_.get());
}

}  // namespace detour::server
