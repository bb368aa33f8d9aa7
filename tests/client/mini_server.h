#pragma once

#include <openssl/ssl.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "acme/certificate.h"
#include "crypto/keys.h"
#include "net/fd.h"

namespace detour::client {

/// One connection as the server in a test sees it, with or without TLS. All calls block, for a few
/// seconds at most.
class MiniConnection {
 public:
  MiniConnection(int fd, SSL* ssl) : fd_(fd), ssl_(ssl) {}

  /// Up to `size` bytes; fewer when the client is done.
  std::vector<std::uint8_t> read(std::size_t size);
  /// Everything up to and with the empty line of a request.
  std::string read_head();
  void write(std::span<const std::uint8_t> bytes);

  /// The relay's side of a login with the given key. Gives the client's key. `behind` is sent in
  /// one write with ServerInfo.
  crypto::NodePublic log_in(const crypto::NodePrivate& relay_key,
                            std::span<const std::uint8_t> behind = {});

 private:
  int fd_;
  SSL* ssl_;
};

/// A server on a loopback port that takes one connection and hands it to `serve`, in its own
/// thread. The connection ends when `serve` returns.
class MiniServer {
 public:
  using Serve = std::function<void(MiniConnection&)>;

  /// `certificate` of nullptr: no TLS. It must outlive the server.
  MiniServer(Serve serve, const acme::ServerCertificate* certificate);
  ~MiniServer();
  MiniServer(const MiniServer&) = delete;
  MiniServer& operator=(const MiniServer&) = delete;

  /// Waits for `serve` to be over. What it wrote may be read then.
  void wait();
  [[nodiscard]] std::uint16_t port() const { return port_; }

 private:
  void run();

  Serve serve_;
  const acme::ServerCertificate* certificate_;
  net::UniqueFd listener_;
  std::uint16_t port_ = 0;
  std::thread thread_;
};

}  // namespace detour::client
