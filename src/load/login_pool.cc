#include "load/login_pool.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <array>

#include "base/check.h"

namespace detour::load {

LoginPool::LoginPool(ConnectionSettings settings, std::uint32_t keys, std::uint32_t concurrent,
                     AfterLogin after_login)
    : settings_(std::move(settings)),
      concurrent_(concurrent),
      after_login_(after_login),
      epoll_fd_(epoll_create1(EPOLL_CLOEXEC)) {
  DETOUR_CHECK(epoll_fd_ >= 0 && keys > 0 && concurrent > 0);
  identities_.reserve(keys);
  for (std::uint32_t i = 0; i < keys; ++i) {
    const auto key = crypto::NodePrivate::generate();
    identities_.push_back({.key = key, .public_key = key.public_key()});
  }
}

LoginPool::~LoginPool() {
  for (auto& [connection, owner] : connections_) connection->close();
  close(epoll_fd_);
}

client::Outcome<void> LoginPool::run_once(std::uint64_t logins_max,
                                          std::chrono::milliseconds timeout) {
  while (pending_ < concurrent_ && begun_ < logins_max) {
    if (auto result = begin_login(); !result) return result;
  }
  std::array<epoll_event, 64> events;
  const int count = epoll_wait(epoll_fd_, events.data(), static_cast<int>(events.size()),
                               static_cast<int>(timeout.count()));
  for (int i = 0; i < count; ++i) {
    const auto& event = events[static_cast<std::size_t>(i)];
    auto* connection = static_cast<Connection*>(event.data.ptr);
    const bool was_open = connection->is_open();
    const auto result =
        connection->on_events(event.events, scratch_, [](const client::Frame&, std::uint64_t) {});
    if (!result) return result;
    if (!was_open && connection->is_open()) finish_login(connection);
  }
  return {};
}

client::Outcome<void> LoginPool::begin_login() {
  const auto& identity = identities_[begun_ % identities_.size()];
  auto connection = std::make_unique<Connection>(settings_, identity.key, identity.public_key);
  if (auto result = connection->start(epoll_fd_, static_cast<std::uint32_t>(begun_)); !result)
    return result;
  ++begun_;
  ++pending_;
  auto* address = connection.get();
  begun_at_.emplace(address, now_ns());
  connections_.emplace(address, std::move(connection));
  return {};
}

void LoginPool::finish_login(Connection* connection) {
  --pending_;
  ++done_;
  if (connection->used_fast_start()) ++fast_starts_;
  login_times_.add(now_ns() - begun_at_.at(connection));
  begun_at_.erase(connection);
  if (tls_name_.empty()) tls_name_ = connection->transport_name();
  if (after_login_ == AfterLogin::kKeep) return;
  connection->close();
  connections_.erase(connection);
}

}  // namespace detour::load
