#include "net/socket.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <poll.h>

#include <string>

#include "support/says.h"

namespace detour::net {
namespace {

int option(int fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  EXPECT_EQ(::getsockopt(fd, level, name, &value, &size), 0);
  return value;
}

/// A blocking client connection. Empty when refused.
UniqueFd connect_to(const SocketAddress& address) {
  UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd || ::connect(fd.get(), address.get(), address.size()) != 0) return {};
  return fd;
}

TEST(ListenTcp, TakesAFreePortAndTellsWhich) {
  const auto listener = listen_tcp(*SocketAddress::parse("127.0.0.1", 0), {});
  ASSERT_TRUE(listener.has_value()) << listener.error();
  const auto address = local_address(listener->get());
  EXPECT_NE(address.port(), 0);
  EXPECT_EQ(address.ip_text(), "127.0.0.1");
  EXPECT_TRUE(connect_to(address));
}

TEST(TcpRoundTripTime, IsKnownForAConnectionAndForNothingElse) {
  const auto listener = listen_tcp(*SocketAddress::parse("127.0.0.1", 0), {});
  ASSERT_TRUE(listener.has_value()) << listener.error();
  const auto client = connect_to(local_address(listener->get()));
  const auto rtt = tcp_round_trip_time(client.get());
  ASSERT_TRUE(rtt.has_value());
  EXPECT_LT(*rtt, std::chrono::seconds(5));
  EXPECT_FALSE(tcp_round_trip_time(-1).has_value());
  const UniqueFd udp(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  EXPECT_FALSE(tcp_round_trip_time(udp.get()).has_value());
}

TEST(ListenTcp, SaysThatThePortIsTakenAndHowToFindOut) {
  const auto first = listen_tcp(*SocketAddress::parse("127.0.0.1", 0), {});
  ASSERT_TRUE(first.has_value());
  const auto address = local_address(first->get());
  const auto second = listen_tcp(address, {});
  ASSERT_FALSE(second.has_value());
  const std::string port = std::to_string(address.port());
  EXPECT_EQ(second.error(),
            "cannot listen on TCP 127.0.0.1:" + port +
                ": Address already in use: another program holds this port (see `ss -lnp | grep :" +
                port + "`); stop it or choose another");
}

TEST(ListenTcp, SaysThatTheAddressIsNotThisMachines) {
  // 192.0.2.0/24 is for documentation and on no machine (RFC 5737).
  const auto listener = listen_tcp(*SocketAddress::parse("192.0.2.1", 0), {});
  ASSERT_FALSE(listener.has_value());
  EXPECT_TRUE(test::says(listener.error(), "this machine has no such address"));
}

TEST(ListenTcp, HandsItsOptionsToEachConnection) {
  const TcpOptions options{.keepalive_idle = std::chrono::seconds(77),
                           .keepalive_interval = std::chrono::seconds(13),
                           .keepalive_probes = 5,
                           .user_timeout = std::chrono::milliseconds(4321),
                           .not_sent_low_water = 65'537,
                           .backlog = 4096};
  const auto listener = listen_tcp(*SocketAddress::parse("127.0.0.1", 0), options);
  ASSERT_TRUE(listener.has_value());
  const UniqueFd client = connect_to(local_address(listener->get()));
  ASSERT_TRUE(client);
  pollfd readable{.fd = listener->get(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(::poll(&readable, 1, 10'000), 1);
  const UniqueFd accepted(::accept4(listener->get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_TRUE(accepted);
  EXPECT_EQ(option(accepted.get(), IPPROTO_TCP, TCP_NODELAY), 1);
  EXPECT_EQ(option(accepted.get(), SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(option(accepted.get(), IPPROTO_TCP, TCP_KEEPIDLE), 77);
  EXPECT_EQ(option(accepted.get(), IPPROTO_TCP, TCP_KEEPINTVL), 13);
  EXPECT_EQ(option(accepted.get(), IPPROTO_TCP, TCP_KEEPCNT), 5);
  EXPECT_EQ(option(accepted.get(), IPPROTO_TCP, TCP_USER_TIMEOUT), 4321);
  EXPECT_EQ(option(accepted.get(), IPPROTO_TCP, TCP_NOTSENT_LOWAT), 65'537);
}

TEST(ListenTcp, LeavesOutWhatIsSwitchedOff) {
  const auto listener =
      listen_tcp(*SocketAddress::parse("127.0.0.1", 0),
                 {.keepalive_idle = Duration::zero(), .user_timeout = Duration::zero()});
  ASSERT_TRUE(listener.has_value());
  EXPECT_EQ(option(listener->get(), SOL_SOCKET, SO_KEEPALIVE), 0);
  EXPECT_EQ(option(listener->get(), IPPROTO_TCP, TCP_USER_TIMEOUT), 0);
}

TEST(ListenTcp, TheWildcardTakesIpv4) {
  const auto listener = listen_tcp(*SocketAddress::parse("", 0), {});
  ASSERT_TRUE(listener.has_value()) << listener.error();
  const std::uint16_t port = local_address(listener->get()).port();
  EXPECT_TRUE(connect_to(*SocketAddress::parse("127.0.0.1", port)));
}

TEST(BindUdp, TakesAFreePortAndRefusesATakenOne) {
  const auto first = bind_udp(*SocketAddress::parse("127.0.0.1", 0));
  ASSERT_TRUE(first.has_value()) << first.error();
  EXPECT_EQ(option(first->get(), IPPROTO_IP, IP_PKTINFO), 1);
  const auto address = local_address(first->get());
  ASSERT_NE(address.port(), 0);
  const auto second = bind_udp(address);
  ASSERT_FALSE(second.has_value());
  EXPECT_TRUE(test::says(second.error(), "cannot bind UDP " + address.text()));
  EXPECT_TRUE(test::says(second.error(), "another program holds this port"));
}

TEST(UniqueFd, ClosesWhatItOwnsAndNothingElse) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
  ASSERT_TRUE(fd);
  const int number = fd.get();
  UniqueFd moved(std::move(fd));
  EXPECT_FALSE(fd);  // NOLINT(bugprone-use-after-move): that is the point.
  EXPECT_EQ(moved.get(), number);
  moved = UniqueFd();
  EXPECT_EQ(::fcntl(number, F_GETFD), -1) << "closed";
}

}  // namespace
}  // namespace detour::net
