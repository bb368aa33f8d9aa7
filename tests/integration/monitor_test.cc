// The listener for monitoring of a whole relay.

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "net/fd.h"
#include "support/says.h"
#include "support/temp_folder.h"
#include "support/test_relay.h"

namespace detour::test {
namespace {

/// The answer to a request, head and all.
std::string get(const net::SocketAddress& address, std::string_view path,
                const std::string& token = "", const std::string& host = "x") {
  net::UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(fd.get(), address.get(), address.size()) != 0) return "not connected";
  std::string request = "GET " + std::string(path) + " HTTP/1.1\r\nHost: " + host + "\r\n";
  if (!token.empty()) request += "Authorization: Bearer " + token + "\r\n";
  request += "\r\n";
  EXPECT_EQ(::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(request.size()));
  std::string answer;
  std::array<char, 16384> buffer{};
  for (ssize_t count = 1; count > 0;) {
    count = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
    if (count > 0) answer.append(buffer.data(), static_cast<std::size_t>(count));
  }
  return answer;
}

std::string status(const net::SocketAddress& address, std::string_view path,
                   const std::string& token = "") {
  return get(address, path, token).substr(9, 3);
}

class MonitorTest : public testing::Test {
 protected:
  void configure(config::Config& config) const {
    config.metrics_listen = config::ListenAddress{.host = "127.0.0.1", .port = 0};
  }

  TempFolder folder_;
};

TEST_F(MonitorTest, ServesMetricsAndSaysThatTheRelayIsWell) {
  TestRelay relay({.workers = 2, .configure = [this](config::Config& c) { configure(c); }});
  const auto client = relay.dial();
  const auto address = relay.relay().metrics_address();
  ASSERT_TRUE(address.has_value());
  const auto metrics = get(*address, "/metrics");
  EXPECT_TRUE(says(metrics, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
  EXPECT_TRUE(says(metrics, "\nderp_current_connections 1\n"));
  EXPECT_TRUE(says(metrics, "\nprocess_open_fds "));
  EXPECT_EQ(status(*address, "/healthz"), "200");
  EXPECT_EQ(status(*address, "/readyz"), "200");
  EXPECT_EQ(status(*address, "/derp"), "404") << "nothing else is served there";
  EXPECT_EQ(relay.metric("tls_listener_accepted_connections"), 1U)
      << "who watches does not count as a client";
}

TEST_F(MonitorTest, IsNotThereUnlessAskedFor) {
  TestRelay relay({});
  EXPECT_FALSE(relay.relay().metrics_address().has_value());
}

TEST_F(MonitorTest, AsksForTheTokenAndReadsItAgain) {
  const auto file = folder_.write("token", " first\n");
  TestRelay relay({.configure = [&](config::Config& config) {
    configure(config);
    config.metrics_token_file = file;
  }});
  const auto address = *relay.relay().metrics_address();
  EXPECT_EQ(status(address, "/metrics"), "401");
  EXPECT_EQ(status(address, "/metrics", "second"), "401");
  EXPECT_EQ(status(address, "/metrics", "first"), "200");
  EXPECT_EQ(status(address, "/healthz"), "200");

  folder_.write("token", "second");
  relay.relay().reload(relay.config());
  EXPECT_EQ(status(address, "/metrics", "first"), "401");
  EXPECT_EQ(status(address, "/metrics", "second"), "200");

  folder_.write("token", "two words");
  relay.relay().reload(relay.config());
  EXPECT_EQ(status(address, "/metrics", "second"), "200") << "the old one stays";
  EXPECT_TRUE(says(relay.log().lines(), "one word of printable ASCII is needed"));

  config::Config open = relay.config();
  open.metrics_token_file = "";
  relay.relay().reload(open);
  EXPECT_EQ(status(address, "/metrics"), "200");
}

TEST_F(MonitorTest, ServesTheStatusPageAndWhatItShows) {
  TestRelay relay({.configure = [this](config::Config& c) { configure(c); }});
  const auto a = relay.dial();
  const auto b = relay.dial();
  ASSERT_TRUE(a && b);
  ASSERT_TRUE(a->send(b->public_key(), std::vector<std::uint8_t>(500, 4)).has_value());
  ASSERT_TRUE(b->receive_packet(kPatience).has_value());
  const auto address = *relay.relay().metrics_address();
  // Only an address or localhost is a good name for it.
  EXPECT_EQ(status(address, "/"), "403");
  EXPECT_EQ(status(address, "/status.json"), "403");
  EXPECT_TRUE(get(address, "/", "", address.text()).ends_with("</html>\n"));
  const auto ask = [&address](std::string_view query) {
    const auto answer = get(address, "/status.json" + std::string(query), "", address.text());
    return answer.substr(9, 3) == "200"
               ? nlohmann::json::parse(answer.substr(answer.find("\r\n\r\n") + 4))
               : nlohmann::json(answer);
  };
  const auto told = ask("");
  EXPECT_EQ(told["clients"].size(), 2U) << told;
  EXPECT_EQ(told["totals"]["received"]["other"]["bytes"], 500);
  EXPECT_GT(told["perSecond"]["receivedBytes"], 0);
  EXPECT_GE(told["history"]["next"], 1) << "the moment of the start";
  EXPECT_EQ(told["listening"][0]["address"], relay.relay().address().text());
  EXPECT_EQ(told["listening"].back()["address"], address.text());
  EXPECT_TRUE(told["doctor"].is_null());
  EXPECT_EQ(ask("")["run"], told["run"]);
  EXPECT_TRUE(says(ask("?next=x").dump(), "next: a number is needed"));
  TestRelay other({.configure = [this](config::Config& c) { configure(c); }});
  const auto others = *other.relay().metrics_address();
  const auto answer = get(others, "/status.json", "", others.text());
  EXPECT_FALSE(says(answer, told["run"].get<std::string>())) << "another run";
}

TEST_F(MonitorTest, RefusesATokenThatIsNone) {
  CollectedLog log;
  for (const auto& content : {std::string(), std::string("\n"), std::string(4097, 'x')}) {
    config::Config config;
    configure(config);
    config.listen = {.host = "127.0.0.1", .port = 0};
    config.tls = false;
    config.stun = false;
    config.metrics_token_file = folder_.write("token", content);
    const auto relay = server::Relay::start({.config = config,
                                             .key = crypto::NodePrivate::generate(),
                                             .certificate = nullptr,
                                             .log = &log});
    ASSERT_FALSE(relay.has_value()) << content.size();
    EXPECT_TRUE(says(relay.error(), "metrics token: " + folder_.path("token")));
  }
}

TEST_F(MonitorTest, SaysThatItIsNotReadyWhileItStops) {
  TestRelay relay({.configure = [this](config::Config& c) { configure(c); }});
  const auto address = *relay.relay().metrics_address();
  // A client that does not close keeps the relay waiting for a while.
  const auto client = relay.dial();
  std::thread stopping([&relay] { relay.relay().stop(); });
  EXPECT_TRUE(wait_until([&] {
    const auto answer = get(address, "/readyz");
    return says(answer, "the relay is stopping") || answer == "not connected";
  }));
  stopping.join();
  EXPECT_EQ(get(address, "/readyz"), "not connected");
}

}  // namespace
}  // namespace detour::test
