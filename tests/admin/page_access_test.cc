#include "admin/page_access.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace detour::admin {
namespace {

using Headers = std::vector<std::pair<std::string, std::string>>;

http::Request request(Headers headers) {
  http::Request made;
  made.method = "GET";
  made.path = "/status.json";
  made.headers = std::move(headers);
  return made;
}

/// The status of the refusal; 0 when there is none.
unsigned data_status(const Headers& headers, std::string_view peer, std::string_view token = "") {
  const auto asked = request(headers);
  const auto refusal = refuse_page_data({.request = asked, .peer_ip = peer, .token = token});
  return refusal ? refusal->status : 0;
}

unsigned page_status(const Headers& headers, std::string_view peer, std::string_view token = "") {
  const auto asked = request(headers);
  const auto refusal = refuse_page({.request = asked, .peer_ip = peer, .token = token});
  return refusal ? refusal->status : 0;
}

TEST(PageAccess, WithoutATokenIsForThisMachine) {
  const Headers host = {{"Host", "127.0.0.1:9090"}};
  struct Case {
    std::string_view peer;
    unsigned status;
  };
  constexpr Case kCases[] = {
      {"127.0.0.1", 0},     {"127.1.2.3", 0},           {"::1", 0},   {"::ffff:127.0.0.1", 0},
      {"126.255.0.1", 403}, {"128.0.0.1", 403},         {"::2", 403}, {"192.168.1.10", 403},
      {"100.64.0.1", 403},  {"fd7a:115c:a1e0::1", 403}, {"", 403},    {"not an address", 403}};
  for (const auto& [peer, status] : kCases) {
    EXPECT_EQ(data_status(host, peer), status) << peer;
    EXPECT_EQ(page_status(host, peer), status) << peer;
  }
}

TEST(PageAccess, WithoutATokenIsNotForWhoComesThroughAProxy) {
  for (const std::string name :
       {"X-Forwarded-For", "x-forwarded-for", "X-Forwarded-Host", "X-Real-IP", "Forwarded", "Via"})
    for (const std::string value : {"127.0.0.1", "192.0.2.1", ""})
      EXPECT_EQ(page_status({{"Host", "localhost"}, {name, value}}, "127.0.0.1"), 403U) << name;
}

TEST(PageAccess, WithoutATokenAnswersToNoNameThatADnsServerMayHaveMade) {
  struct Case {
    std::string host;
    unsigned status;
  };
  const Case kCases[] = {
      {"127.0.0.1", 0},
      {"127.0.0.1:9090", 0},
      {"192.168.1.5:9090", 0},  // An address is no name: nobody can make it lead elsewhere.
      {"[::1]:9090", 0},
      {"[::1]", 0},
      {"localhost", 0},
      {"LocalHost:1", 0},
      {"", 403},
      {"localhost.evil.example", 403},
      {"localhost.", 403},
      {"127.0.0.1.evil.example:9090", 403},
      {"evil.example", 403},
      {"evil.example:9090", 403},
      {"[evil.example]", 403},
      {"[::1", 403},
      {"[", 403},
      {"[]", 403},
      {"[::1]evil.example", 403},
      {"0x7f.1", 403},
      {"127.1", 403},
      {":9090", 403},
  };
  for (const auto& [host, status] : kCases) {
    EXPECT_EQ(data_status({{"Host", host}}, "127.0.0.1"), status) << host;
    EXPECT_EQ(page_status({{"Host", host}}, "127.0.0.1"), status) << host;
    EXPECT_EQ(page_status({{"Host", host}}, "127.0.0.1", "token"), 0U) << "the token decides";
  }
}

TEST(PageAccess, TheDataIsForNoOtherSite) {
  struct Case {
    Headers headers;
    unsigned status;
  };
  const Case kCases[] = {
      {{{"Sec-Fetch-Site", "same-origin"}}, 0},
      {{{"Sec-Fetch-Site", "none"}}, 0},
      {{{"Sec-Fetch-Site", "same-site"}}, 403},  // Another port of this machine.
      {{{"Sec-Fetch-Site", "cross-site"}}, 403},
      {{{"Sec-Fetch-Site", ""}}, 403},
      {{{"Origin", "http://127.0.0.1:9090"}}, 0},
      {{{"Origin", "HTTP://127.0.0.1:9090"}}, 0},
      {{{"Origin", "http://127.0.0.1:9091"}}, 403},
      {{{"Origin", "http://evil.example"}}, 403},
      {{{"Origin", "null"}}, 403},
      {{{"Origin", ""}}, 403},
      {{{"Sec-Fetch-Site", "same-origin"}, {"Origin", "http://evil.example"}}, 403},
  };
  for (const auto& [more, status] : kCases) {
    Headers headers = {{"Host", "127.0.0.1:9090"}};
    headers.insert(headers.end(), more.begin(), more.end());
    EXPECT_EQ(data_status(headers, "127.0.0.1"), status) << more[0].second;
    headers.emplace_back("Authorization", "Bearer token");
    EXPECT_EQ(data_status(headers, "192.0.2.1", "token"), status) << more[0].second;
    // A link on another site may open the page, which holds nothing.
    EXPECT_EQ(page_status(headers, "127.0.0.1"), 0U);
  }
}

TEST(PageAccess, WithATokenIsForWhoBringsIt) {
  const Headers host = {{"Host", "relay.example:9090"}};
  const auto with = [&host](std::string authorization) {
    Headers headers = host;
    headers.emplace_back("Authorization", std::move(authorization));
    return headers;
  };
  EXPECT_EQ(page_status(host, "192.0.2.1", "secret"), 0U);
  EXPECT_EQ(data_status(host, "192.0.2.1", "secret"), 401U);
  EXPECT_EQ(data_status(host, "127.0.0.1", "secret"), 401U);
  EXPECT_EQ(data_status(with("Bearer secret"), "192.0.2.1", "secret"), 0U);
  EXPECT_EQ(data_status(with("bearer secret"), "192.0.2.1", "secret"), 0U);
  for (const std::string wrong : {"", "Bearer", "Bearer ", "Bearer secre", "Bearer secrets",
                                  "Bearer Secret", "Basic secret", "secret"})
    EXPECT_EQ(data_status(with(wrong), "127.0.0.1", "secret"), 401U) << wrong;
}

TEST(PageAccess, RefusalsSayWhatToDo) {
  const auto remote = request({{"Host", "192.0.2.7:9090"}});
  const auto refusal = refuse_page({.request = remote, .peer_ip = "192.0.2.1", .token = ""});
  ASSERT_TRUE(refusal.has_value());
  EXPECT_NE(refusal->body.find("you come from 192.0.2.1"), std::string::npos);
  EXPECT_NE(refusal->body.find("--metrics-token-file"), std::string::npos);
  EXPECT_NE(refusal->body.find("ssh -L"), std::string::npos);
}

}  // namespace
}  // namespace detour::admin
