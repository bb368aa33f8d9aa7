#include "client/mini_server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include "base/bytes.h"
#include "crypto/box.h"
#include "derp/frame.h"
#include "derp/handshake.h"

namespace detour::client {

namespace {

constexpr int kPatienceSeconds = 10;

/// OpenSSL writes to sockets that the client has left; that must not end the test program.
void ignore_broken_pipes() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

void set_patience(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  const timeval patience{.tv_sec = kPatienceSeconds, .tv_usec = 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
}

}  // namespace

std::vector<std::uint8_t> MiniConnection::read(std::size_t size) {
  std::vector<std::uint8_t> bytes(size);
  std::size_t filled = 0;
  while (filled < size) {
    std::size_t count = 0;
    if (ssl_ != nullptr) {
      if (SSL_read_ex(ssl_, bytes.data() + filled, size - filled, &count) != 1) break;
    } else {
      const ssize_t got = ::recv(fd_, bytes.data() + filled, size - filled, 0);
      if (got <= 0) break;
      count = static_cast<std::size_t>(got);
    }
    filled += count;
  }
  bytes.resize(filled);
  return bytes;
}

std::string MiniConnection::read_head() {
  std::string head;
  while (!head.ends_with("\r\n\r\n")) {
    const auto byte = read(1);
    if (byte.empty()) break;
    head.append(as_text(byte));
  }
  return head;
}

void MiniConnection::write(std::span<const std::uint8_t> bytes) {
  if (bytes.empty()) return;
  if (ssl_ != nullptr) {
    std::size_t count = 0;
    SSL_write_ex(ssl_, bytes.data(), bytes.size(), &count);
  } else {
    (void)::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
}

crypto::NodePublic MiniConnection::log_in(const crypto::NodePrivate& relay_key,
                                          std::span<const std::uint8_t> behind) {
  const std::string head = read_head();
  if (head.find("Derp-Fast-Start: 1") == std::string::npos)
    write(as_bytes("HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\n\r\n"));
  write(derp::encode_server_key(relay_key.public_key()));
  const auto header_bytes = read(derp::kFrameHeaderSize);
  if (header_bytes.size() < derp::kFrameHeaderSize) return {};
  const auto header =
      derp::read_frame_header(std::span(header_bytes).first<derp::kFrameHeaderSize>());
  const auto hello = derp::open_client_info(read(header.payload_size), relay_key);
  EXPECT_TRUE(hello.has_value());
  if (!hello) return {};
  auto answer = derp::encode_server_info(hello->shared);
  answer.insert(answer.end(), behind.begin(), behind.end());
  write(answer);
  return hello->key;
}

MiniServer::MiniServer(Serve serve, const acme::ServerCertificate* certificate)
    : serve_(std::move(serve)),
      certificate_(certificate),
      listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(listen(listener_.get(), 1), 0);
  socklen_t size = sizeof address;
  EXPECT_EQ(getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { run(); });
}

MiniServer::~MiniServer() {
  wait();
}

void MiniServer::wait() {
  if (thread_.joinable()) thread_.join();
}

void MiniServer::run() {
  ignore_broken_pipes();
  pollfd polled{.fd = listener_.get(), .events = POLLIN, .revents = 0};
  if (poll(&polled, 1, kPatienceSeconds * 1000) != 1) return;
  const net::UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  set_patience(fd.get());
  if (certificate_ == nullptr) {
    MiniConnection connection(fd.get(), nullptr);
    serve_(connection);
    return;
  }
  const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_server_method()),
                                                                  SSL_CTX_free);
  SSL_CTX_use_certificate(context.get(), certificate_->leaf.get());
  SSL_CTX_use_PrivateKey(context.get(), certificate_->key.get());
  const std::unique_ptr<SSL, decltype(&SSL_free)> ssl(SSL_new(context.get()), SSL_free);
  SSL_set_fd(ssl.get(), fd.get());
  if (SSL_accept(ssl.get()) != 1) return;
  MiniConnection connection(fd.get(), ssl.get());
  serve_(connection);
  SSL_shutdown(ssl.get());
}

}  // namespace detour::client
