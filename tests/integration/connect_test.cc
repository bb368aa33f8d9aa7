// CONNECT tunnels on a whole relay. What the reference answers to whom is proven against both
// servers in tests/interop/connect; here it is about bytes, back-pressure and who leaves.

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "net/address.h"
#include "net/fd.h"
#include "net/socket.h"
#include "support/test_relay.h"

namespace detour::test {
namespace {

constexpr std::string_view kRequest = "CONNECT a.tailscale.com:443 HTTP/1.1\r\nHost: x\r\n\r\n";
constexpr std::string_view kOpened = "HTTP/1.1 200 OK\r\n\r\n";

void set_patience(int fd) {
  timeval limit{.tv_sec = std::chrono::duration_cast<std::chrono::seconds>(kPatience).count(),
                .tv_usec = 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

bool send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

/// Everything up to the end of the stream.
std::string receive_all(int fd) {
  std::string all;
  std::array<char, 65536> piece;
  for (ssize_t got = 0; (got = ::recv(fd, piece.data(), piece.size(), 0)) > 0;)
    all.append(piece.data(), static_cast<std::size_t>(got));
  return all;
}

/// A target that takes one connection at a time and serves it on a thread of its own.
class Target {
 public:
  using Serve = std::function<void(int fd)>;

  explicit Target(Serve serve) : serve_(std::move(serve)), fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    const auto any = *net::SocketAddress::parse("127.0.0.1", 0);
    EXPECT_EQ(::bind(fd_.get(), any.get(), any.size()), 0);
    EXPECT_EQ(::listen(fd_.get(), 16), 0);
    thread_ = std::thread([this] {
      for (;;) {
        const net::UniqueFd connection(::accept(fd_.get(), nullptr, nullptr));
        if (!connection) return;
        set_patience(connection.get());
        serve_(connection.get());
        ++served_;
      }
    });
  }
  ~Target() {
    ::shutdown(fd_.get(), SHUT_RDWR);
    thread_.join();
  }
  Target(const Target&) = delete;
  Target& operator=(const Target&) = delete;

  [[nodiscard]] net::SocketAddress address() const { return net::local_address(fd_.get()); }
  [[nodiscard]] int served() const { return served_; }

 private:
  Serve serve_;
  net::UniqueFd fd_;
  std::atomic<int> served_{0};
  std::thread thread_;
};

/// A client of the relay's HTTPS, which trusts anybody. Blocking.
class TlsSocket {
 public:
  explicit TlsSocket(const TestRelay& relay)
      : fd_(::socket(AF_INET, SOCK_STREAM, 0)),
        context_(SSL_CTX_new(TLS_client_method()), SSL_CTX_free),
        ssl_(SSL_new(context_.get()), SSL_free) {
    const auto address = *net::SocketAddress::parse("127.0.0.1", relay.port());
    set_patience(fd_.get());
    EXPECT_EQ(::connect(fd_.get(), address.get(), address.size()), 0);
    SSL_set_fd(ssl_.get(), fd_.get());
    EXPECT_EQ(SSL_connect(ssl_.get()), 1);
  }

  void write(std::string_view bytes) {
    EXPECT_EQ(SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size())),
              static_cast<int>(bytes.size()));
  }
  [[nodiscard]] std::string read(std::size_t size) {
    std::string bytes(size, '\0');
    std::size_t have = 0;
    while (have < size) {
      const int got = SSL_read(ssl_.get(), bytes.data() + have, static_cast<int>(size - have));
      if (got <= 0) break;
      have += static_cast<std::size_t>(got);
    }
    bytes.resize(have);
    return bytes;
  }
  /// Writes as much as the relay takes while nobody reads at the other end.
  void write_until_full(std::string_view bytes) {
    const timeval short_limit{.tv_sec = 0, .tv_usec = 300'000};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &short_limit, sizeof short_limit);
    SSL_set_mode(ssl_.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    for (;;) {
      const int sent =
          SSL_write(ssl_.get(), bytes.data() + written_, static_cast<int>(bytes.size() - written_));
      if (sent <= 0) break;
      written_ += static_cast<std::size_t>(sent);
    }
    EXPECT_LT(written_, bytes.size()) << "all of it went somewhere";
    set_patience(fd_.get());
  }
  /// The rest of what write_until_full() began.
  void write_rest(std::string_view bytes) {
    while (written_ < bytes.size()) {
      const int sent =
          SSL_write(ssl_.get(), bytes.data() + written_, static_cast<int>(bytes.size() - written_));
      ASSERT_GT(sent, 0);
      written_ += static_cast<std::size_t>(sent);
    }
  }
  void open_tunnel() {
    write(kRequest);
    EXPECT_EQ(read(kOpened.size()), kOpened);
  }
  void end_writing() { SSL_shutdown(ssl_.get()); }

 private:
  net::UniqueFd fd_;
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_;
  std::unique_ptr<SSL, decltype(&SSL_free)> ssl_;
  std::size_t written_ = 0;
};

TestRelay::Options tunnels_to(const net::SocketAddress& address) {
  return {.workers = 2, .divert_tunnels_to = address, .configure = [](config::Config& config) {
            config.ace = true;
          }};
}

/// Bytes that tell their place.
std::string numbered(std::size_t size) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i)
    bytes[i] = static_cast<char>((i * 2654435761U) >> 13 & 0xff);
  return bytes;
}

TEST(Connect, CarriesBytesBothWays) {
  const Target target([](int fd) {
    std::array<char, 4096> piece;
    for (ssize_t got = 0; (got = ::recv(fd, piece.data(), piece.size(), 0)) > 0;)
      if (!send_all(fd, {piece.data(), static_cast<std::size_t>(got)})) return;
  });
  const TestRelay relay(tunnels_to(target.address()));
  TlsSocket client(relay);
  client.open_tunnel();
  for (const std::string_view text : {"hello", "again"}) {
    client.write(text);
    EXPECT_EQ(client.read(text.size()), text);
  }
  EXPECT_EQ(relay.metric("detour_connect_tunnels"), 1U);
  // Bytes in one write with the request.
  TlsSocket early(relay);
  early.write(std::string(kRequest) + "early");
  client.end_writing();
  EXPECT_EQ(early.read(kOpened.size() + 5), std::string(kOpened) + "early");
  EXPECT_TRUE(wait_until([&] { return relay.metric("detour_connect_tunnels") == 1; }));
}

TEST(Connect, WaitsForAClientAndForATargetThatTakeNothing) {
  constexpr std::size_t kSize = 16 * 1024 * 1024;
  const std::string bytes = numbered(kSize);
  std::string at_target;
  std::atomic<bool> stuck = false;
  {
    // First it only sends, more than fits on the way; then it waits before it reads.
    const Target target([&](int fd) {
      EXPECT_TRUE(send_all(fd, bytes));
      EXPECT_TRUE(wait_until([&] { return stuck.load(); }));
      at_target = receive_all(fd);
    });
    const TestRelay relay(tunnels_to(target.address()));
    TlsSocket client(relay);
    client.open_tunnel();
    EXPECT_EQ(client.read(kSize), bytes);
    client.write_until_full(bytes);
    stuck = true;
    client.write_rest(bytes);
    client.end_writing();
    EXPECT_TRUE(wait_until([&] { return target.served() == 1; }));
  }
  EXPECT_EQ(at_target, bytes);
}

TEST(Connect, TellsEachSideThatTheOtherOneLeft) {
  const Target target([](int fd) { EXPECT_TRUE(send_all(fd, "asked: " + receive_all(fd))); });
  const TestRelay relay(tunnels_to(target.address()));
  {
    TlsSocket client(relay);
    client.open_tunnel();
    client.write("this");
    client.end_writing();  // The other direction stays.
    EXPECT_EQ(client.read(100), "asked: this");
  }
  {
    TlsSocket client(relay);
    client.open_tunnel();
  }
  EXPECT_TRUE(wait_until([&] { return target.served() == 2; }));
  EXPECT_TRUE(wait_until([&] { return relay.metric("detour_connect_tunnels") == 0; }));
}

TEST(Connect, SaysWhenTheTargetCannotBeReached) {
  // A port that was free a moment ago.
  const auto nobody = Target([](int) {}).address();
  const TestRelay relay(tunnels_to(nobody));
  TlsSocket client(relay);
  client.write(kRequest);
  EXPECT_TRUE(client.read(24).starts_with("HTTP/1.1 502 Bad Gateway"));
  EXPECT_EQ(relay.metric(R"(detour_connect_requests_total{result="failed"})"), 1U);
}

TEST(Connect, EndsWithTheRelay) {
  const Target target([](int fd) { receive_all(fd); });
  {
    TestRelay relay(tunnels_to(target.address()));
    TlsSocket client(relay);
    client.open_tunnel();
    relay.relay().stop();
    EXPECT_EQ(client.read(1), "");
  }
  EXPECT_TRUE(wait_until([&] { return target.served() == 1; }));
}

}  // namespace
}  // namespace detour::test
