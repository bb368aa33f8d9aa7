#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "load/connection.h"
#include "load/histogram.h"

namespace detour::load {

/// Logs clients in, a bounded number at a time, on one epoll. Owned and used by one thread.
///
/// Keys are made in the constructor, so that making them costs nothing while the server is
/// measured.
class LoginPool {
 public:
  enum class AfterLogin : std::uint8_t { kKeep, kClose };

  LoginPool(ConnectionSettings settings, std::uint32_t keys, std::uint32_t concurrent,
            AfterLogin after_login);
  ~LoginPool();
  LoginPool(const LoginPool&) = delete;
  LoginPool& operator=(const LoginPool&) = delete;

  /// Works for up to `timeout`, beginning logins while fewer than `logins_max` were begun.
  /// Fails with the first connection that fails.
  [[nodiscard]] client::Outcome<void> run_once(std::uint64_t logins_max,
                                               std::chrono::milliseconds timeout);

  [[nodiscard]] std::uint64_t logins_done() const { return done_; }
  [[nodiscard]] std::uint64_t fast_starts() const { return fast_starts_; }
  /// Connections that are logged in and kept.
  [[nodiscard]] std::size_t kept() const { return connections_.size() - pending_; }
  /// From the first SYN to ServerInfo.
  [[nodiscard]] const Histogram& login_times() const { return login_times_; }
  /// Of the first login.
  [[nodiscard]] const std::string& tls_name() const { return tls_name_; }

 private:
  struct Identity {
    crypto::NodePrivate key;
    crypto::NodePublic public_key;
  };

  [[nodiscard]] client::Outcome<void> begin_login();
  void finish_login(Connection* connection);

  const ConnectionSettings settings_;
  const std::uint32_t concurrent_;
  const AfterLogin after_login_;
  std::vector<Identity> identities_;
  int epoll_fd_;
  Scratch scratch_;
  std::unordered_map<Connection*, std::unique_ptr<Connection>> connections_;
  std::unordered_map<const Connection*, std::uint64_t> begun_at_;  ///< Of logins under way.
  Histogram login_times_;
  std::uint64_t begun_ = 0;
  std::uint64_t done_ = 0;
  std::uint64_t fast_starts_ = 0;
  std::size_t pending_ = 0;
  std::string tls_name_;
};

}  // namespace detour::load
