#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "server/lookup.h"
#include "server/mesh_link.h"

namespace detour::server {
namespace {

TEST(MeshTarget, UnderstandsHostsPortsAndAddressesToDial) {
  struct Case {
    std::string_view host, dial_host;
    std::string_view wanted_host;
    std::uint16_t port;
    std::string_view wanted_dial_host;
  };
  constexpr Case kCases[] = {
      {"derp1.example.com", "", "derp1.example.com", 443, "derp1.example.com"},
      {"derp1.example.com:8443", "", "derp1.example.com", 8443, "derp1.example.com"},
      {"derp1.example.com:1", "", "derp1.example.com", 1, "derp1.example.com"},
      {"derp1.example.com:65535", "", "derp1.example.com", 65535, "derp1.example.com"},
      {"derp1.example.com", "10.0.0.1", "derp1.example.com", 443, "10.0.0.1"},
      {"derp1.example.com:8443", "vpc1", "derp1.example.com", 8443, "vpc1"},
      {"derp1.example.com", "2001:db8::1", "derp1.example.com", 443, "2001:db8::1"},
      {"derp1.example.com", "[2001:db8::1]", "derp1.example.com", 443, "2001:db8::1"},
      {"203.0.113.7:8443", "", "203.0.113.7", 8443, "203.0.113.7"},
      {"2001:db8::1", "", "2001:db8::1", 443, "2001:db8::1"},
      {"[2001:db8::1]", "", "2001:db8::1", 443, "2001:db8::1"},
      {"[2001:db8::1]:8443", "", "2001:db8::1", 8443, "2001:db8::1"},
  };
  for (const auto& [host, dial_host, wanted_host, port, wanted_dial_host] : kCases) {
    SCOPED_TRACE(host);
    const auto target =
        MeshTarget::parse({.host = std::string(host), .dial_host = std::string(dial_host)});
    ASSERT_TRUE(target.has_value()) << target.error();
    EXPECT_EQ(target->name, host);
    EXPECT_EQ(target->host, wanted_host);
    EXPECT_EQ(target->port, port);
    EXPECT_EQ(target->dial_host, wanted_dial_host);
  }
}

TEST(MeshTarget, RefusesTheRestAndSaysWhatToWrite) {
  struct Case {
    std::string_view host, dial_host, says;
  };
  constexpr Case kCases[] = {
      {"", "", "no host name"},
      {":443", "", "no host name"},
      {"derp1.example.com:", "", "port"},
      {"derp1.example.com:0", "", "port"},
      {"derp1.example.com:65536", "", "port"},
      {"derp1.example.com:https", "", "port"},
      {"derp1.example.com:1:2", "", "port"},
      {"https://derp1.example.com", "", "no host name has"},
      {"derp1 .example.com", "", "no host name has"},
      {"derp1.example.com\r\nX: y", "", "no host name has"},
      {"[2001:db8::1", "", "bracket"},
      {"[2001:db8::1]x", "", "behind the bracket"},
      {"derp1.example.com", "10.0.0.1:443", "port behind the address"},
      {"derp1.example.com", "a/b", "no host name has"},
  };
  for (const auto& [host, dial_host, says] : kCases) {
    SCOPED_TRACE(host);
    const auto target =
        MeshTarget::parse({.host = std::string(host), .dial_host = std::string(dial_host)});
    ASSERT_FALSE(target.has_value());
    EXPECT_NE(target.error().find(says), std::string::npos) << target.error();
    EXPECT_NE(target.error().find("derp1.example.com:8443/10.0.0.1"), std::string::npos);
  }
}

/// Waits for one answer.
class Answered {
 public:
  Lookup::OnAnswer callback() {
    return [this](Lookup::Answer answer) {
      const std::lock_guard lock(mutex_);
      answer_ = std::move(answer);
      came_.notify_all();
    };
  }
  Lookup::Answer wait() {
    std::unique_lock lock(mutex_);
    came_.wait(lock, [this] { return answer_.has_value(); });
    return *answer_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable came_;
  std::optional<Lookup::Answer> answer_;
};

TEST(Lookup, AnswersForAddressesAndNames) {
  for (const auto& [host, text] :
       {std::pair{"127.0.0.1", "127.0.0.1:8443"}, std::pair{"2001:db8::1", "[2001:db8::1]:8443"}}) {
    Answered answered;
    const Lookup lookup(host, 8443, answered.callback());
    const auto answer = answered.wait();
    ASSERT_TRUE(answer.has_value()) << answer.error();
    ASSERT_EQ(answer->size(), 1U);
    EXPECT_EQ(answer->front().text(), text);
  }
  Answered answered;
  const Lookup lookup("localhost", 8443, answered.callback());
  const auto answer = answered.wait();
  ASSERT_TRUE(answer.has_value()) << answer.error();
  ASSERT_FALSE(answer->empty());
  EXPECT_EQ(answer->front().port(), 8443);
}

TEST(Lookup, SaysWhatItCouldNotFind) {
  Answered answered;
  const Lookup lookup("a name with spaces", 1, answered.callback());
  const auto answer = answered.wait();
  ASSERT_FALSE(answer.has_value());
  EXPECT_NE(answer.error().find("'a name with spaces'"), std::string::npos) << answer.error();
}

}  // namespace
}  // namespace detour::server
