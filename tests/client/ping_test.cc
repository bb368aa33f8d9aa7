#include "cli/ping.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <string>
#include <vector>

#include "net/fd.h"

namespace detour::cli {
namespace {

int ping(const std::vector<std::string>& args) {
  return run_ping({.program = "detour", .args = args});
}

TEST(Ping, RefusesArgumentsThatItDoesNotUnderstand) {
  const std::vector<std::string> cases[] = {
      {},
      {"relay.example:"},
      {"relay.example:65536"},
      {"relay.example:0"},
      {"https://"},
      {"[::1]443"},
      {"relay.example/other"},
      {"relay.example", "--pin", "sha256:00"},
      {"relay.example", "--pin", "x", "--insecure"},
      {"relay.example", "--count", "0"},
      {"relay.example", "--size", "65537"},
      {"relay.example", "--no-such-option"},
  };
  for (const auto& args : cases) {
    SCOPED_TRACE(args.empty() ? "nothing" : args.front() + " " + args.back());
    EXPECT_EQ(ping(args), 2);
  }
}

TEST(Ping, PrintsItsHelp) {
  EXPECT_EQ(ping({"--help"}), 0);
}

TEST(Ping, WarnsWhenOnlySomePacketsArrive) {
  const auto status = [](std::uint32_t sent, std::size_t intact) {
    return ping_status({.relay = {}, .sent = sent, .times = std::vector<Duration>(intact)});
  };
  EXPECT_EQ(status(5, 5), 0);
  EXPECT_EQ(status(5, 4), 1);
  EXPECT_EQ(status(5, 1), 1);
  EXPECT_EQ(status(5, 0), 2);
  EXPECT_EQ(status(0, 0), 2);
}

TEST(Ping, FailsWhenNothingListens) {
  // Bound and not listened on, so that nobody else does.
  const net::UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  socklen_t size = sizeof address;
  ASSERT_EQ(getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  const std::string port = std::to_string(ntohs(address.sin_port));
  for (const std::string scheme : {"", "https://", "http://"}) {
    EXPECT_EQ(ping({scheme + "127.0.0.1:" + port, "--insecure"}), 2);
    EXPECT_EQ(ping({scheme + "127.0.0.1:" + port + "/derp", "--insecure", "--json"}), 2);
  }
}

}  // namespace
}  // namespace detour::cli
