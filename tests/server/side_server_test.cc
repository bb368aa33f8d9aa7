#include "server/side_server.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <string_view>
#include <vector>

#include "support/says.h"
#include "support/test_relay.h"

namespace detour::server {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using test::says;

constexpr timeval kPatience{.tv_sec = 30, .tv_usec = 0};

std::unique_ptr<SideServer> serve(Duration timeout = seconds(30)) {
  auto server = SideServer::start({.address = *net::SocketAddress::parse("127.0.0.1", 0),
                                   .timeout = timeout,
                                   .answer = [](const SideServer::Question& question) {
                                     http::Response response;
                                     response.body =
                                         "you asked for " + question.request.target + "\n";
                                     if (question.request.path == "/long")
                                       response.body.assign(8 << 20, 'x');
                                     return response;
                                   }});
  EXPECT_TRUE(server.has_value()) << (server ? "" : server.error());
  return std::move(*server);
}

net::UniqueFd connect_to(const SideServer& server) {
  const auto address = server.address();
  net::UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::connect(fd.get(), address.get(), address.size()), 0);
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  return fd;
}

void send(const net::UniqueFd& fd, std::string_view text) {
  EXPECT_EQ(::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(text.size()));
}

/// Everything until the server closes; the test fails when it resets the connection instead.
std::string read_all(const net::UniqueFd& fd) {
  std::string all;
  std::vector<char> buffer(64 * 1024);
  for (;;) {
    const ssize_t count = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
    EXPECT_GE(count, 0) << "after " << all.size() << " bytes";
    if (count <= 0) return all;
    all.append(buffer.data(), static_cast<std::size_t>(count));
  }
}

TEST(SideServer, AnswersOneRequestPerConnectionHoweverItsBytesCome) {
  const auto server = serve();
  const std::string request = "GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n";
  const auto whole = connect_to(*server);
  send(whole, request);
  const auto answer = read_all(whole);
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 OK\r\n"));
  EXPECT_TRUE(says(answer, "Connection: close\r\n"));
  EXPECT_TRUE(answer.ends_with("\r\n\r\nyou asked for /a?b\n"));

  const auto bytewise = connect_to(*server);
  for (const char c : request) send(bytewise, std::string_view(&c, 1));
  EXPECT_TRUE(read_all(bytewise).ends_with("you asked for /a?b\n"));

  const auto twice = connect_to(*server);
  send(twice, request + request);
  const auto once = read_all(twice);
  EXPECT_EQ(once.find("you asked"), once.rfind("you asked"));
}

TEST(SideServer, SendsAnAnswerThatTheSocketCannotTakeAtOnce) {
  const auto server = serve();
  const auto fd = connect_to(*server);
  send(fd, "GET /long HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto answer = read_all(fd);
  EXPECT_EQ(answer.size() - answer.find("\r\n\r\n") - 4, std::size_t{8} << 20);
}

TEST(SideServer, RefusesWhatIsNoRequest) {
  const auto server = serve();
  const auto nonsense = connect_to(*server);
  send(nonsense, "hello\r\n\r\n");
  EXPECT_TRUE(read_all(nonsense).starts_with("HTTP/1.1 400 "));

  const auto large = connect_to(*server);
  const std::string head = "GET / HTTP/1.1\r\nHost: x\r\nX: ";
  send(large, head + std::string(http::kRequestHeadMax + 1 - head.size(), 'x'));
  EXPECT_TRUE(read_all(large).starts_with("HTTP/1.1 431 "));

  const auto fits = connect_to(*server);
  const std::string end = "\r\n\r\n";
  send(fits, head + std::string(http::kRequestHeadMax - head.size() - end.size(), 'x') + end);
  EXPECT_TRUE(read_all(fits).starts_with("HTTP/1.1 200 "));
}

/// A server that takes bodies of up to `body_max` bytes, and says how long each was.
std::unique_ptr<SideServer> serve_bodies(std::size_t body_max) {
  auto server = SideServer::start({.address = *net::SocketAddress::parse("127.0.0.1", 0),
                                   .timeout = seconds(30),
                                   .answer =
                                       [](const SideServer::Question& question) {
                                         http::Response response;
                                         response.body = std::to_string(question.body.size()) +
                                                         std::string(question.body.substr(0, 5));
                                         return response;
                                       },
                                   .body_max = body_max});
  EXPECT_TRUE(server.has_value()) << (server ? "" : server.error());
  return std::move(*server);
}

std::string post(const SideServer& server, const std::string& fields, std::string_view body) {
  const auto fd = connect_to(server);
  send(fd, "POST /x HTTP/1.1\r\nHost: x\r\n" + fields + "\r\n");
  // In pieces, so that the server sees it grow.
  while (!body.empty()) {
    const std::size_t size = std::min<std::size_t>(body.size(), 3000);
    if (::send(fd.get(), body.data(), size, MSG_NOSIGNAL) <= 0) break;
    body.remove_prefix(size);
  }
  return read_all(fd);
}

TEST(SideServer, TakesBodiesUpToItsBound) {
  constexpr std::size_t kMax = 10'000;
  const auto server = serve_bodies(kMax);
  const auto sized = [](std::size_t size) {
    return "Content-Length: " + std::to_string(size) + "\r\n";
  };
  EXPECT_TRUE(post(*server, sized(0), "").ends_with("\r\n\r\n0"));
  EXPECT_TRUE(post(*server, sized(5), "abcde").ends_with("\r\n\r\n5abcde"));
  EXPECT_TRUE(post(*server, sized(kMax), std::string(kMax, 'b')).ends_with("\n10000bbbbb"));
  const auto above = post(*server, sized(kMax + 1), std::string(kMax + 1, 'b'));
  EXPECT_TRUE(above.starts_with("HTTP/1.1 413 "));
  EXPECT_TRUE(says(above, "the body is larger than 10000 bytes"));
  EXPECT_TRUE(post(*server, sized(http::kRequestBodyMax + 1), "").starts_with("HTTP/1.1 400 "));
  EXPECT_TRUE(post(*server, "Transfer-Encoding: chunked\r\n", "1\r\na\r\n0\r\n\r\n")
                  .starts_with("HTTP/1.1 411 "));
  EXPECT_TRUE(post(*server, "", "").ends_with("\r\n\r\n0")) << "without a body";
}

TEST(SideServer, LooksAtNoBodyUnlessAsked) {
  const auto server = serve();
  EXPECT_TRUE(post(*server, "Content-Length: 5\r\n", "").ends_with("you asked for /x\n"))
      << "it does not wait for the body";
}

TEST(SideServer, TicksBesideWhatItAnswers) {
  std::atomic<int> ticks{0};
  auto server =
      SideServer::start({.address = *net::SocketAddress::parse("127.0.0.1", 0),
                         .answer = [](const SideServer::Question&) { return http::Response{}; },
                         .tick = [&ticks] { ticks.fetch_add(1); },
                         .tick_period = milliseconds(5)});
  ASSERT_TRUE(server.has_value());
  const auto silent = connect_to(**server);
  EXPECT_TRUE(test::wait_until([&ticks] { return ticks.load() >= 3; }));
}

TEST(SideServer, ClosesWhoIsNotDoneInTime) {
  const auto server = serve(milliseconds(50));
  const auto silent = connect_to(*server);
  const auto half = connect_to(*server);
  send(half, "GET / HTTP/1.1\r\n");
  EXPECT_EQ(read_all(silent), "");
  EXPECT_EQ(read_all(half), "");
}

TEST(SideServer, LetsWhoIsTooMuchWaitForAPlace) {
  const auto server = serve();
  std::vector<net::UniqueFd> holders;
  for (std::size_t i = 0; i < SideServer::kConnectionsMax - 1; ++i)
    holders.push_back(connect_to(*server));
  // The last place still serves ...
  {
    const auto last = connect_to(*server);
    send(last, "GET /last HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_TRUE(says(read_all(last), "/last"));
  }
  // ... until it is taken as well.
  holders.push_back(connect_to(*server));
  const auto waiting = connect_to(*server);
  send(waiting, "GET /waiting HTTP/1.1\r\nHost: x\r\n\r\n");
  pollfd readable{.fd = waiting.get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&readable, 1, 50), 0) << "it is answered although all places are taken";
  holders.pop_back();
  EXPECT_TRUE(says(read_all(waiting), "/waiting"));
}

TEST(SideServer, EndsAtOnceWhoeverIsConnected) {
  auto server = serve();
  const auto silent = connect_to(*server);
  const auto reader = connect_to(*server);
  send(reader, "GET /long HTTP/1.1\r\nHost: x\r\n\r\n");
  server.reset();
  char byte = 0;
  EXPECT_LE(::recv(silent.get(), &byte, 1, 0), 0);
}

TEST(SideServer, SaysWhatCannotBeBound) {
  const auto first = serve();
  const auto second =
      SideServer::start({.address = first->address(),
                         .answer = [](const SideServer::Question&) { return http::Response{}; }});
  ASSERT_FALSE(second.has_value());
  EXPECT_TRUE(says(second.error(), "Address already in use"));
}

}  // namespace
}  // namespace detour::server
