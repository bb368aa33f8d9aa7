#include "admin/debug_clients.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "admin/debug_traffic.h"
#include "support/frames.h"
#include "support/says.h"

namespace detour::admin {
namespace {

using nlohmann::json;
using std::chrono::minutes;
using std::chrono::seconds;
using test::numbered_key;
using test::says;

constexpr TimePoint kNow{seconds(100'000)};

struct Made {
  std::uint32_t key;
  std::array<std::uint8_t, 4> ip;
  std::uint16_t port;
};

/// Seven connections of five keys: pages end within a key, within an address and among equal
/// counts.
RelayStatus seven() {
  constexpr std::array<Made, 7> kMade = {{{10, {10, 0, 0, 1}, 1},
                                          {10, {10, 0, 0, 2}, 2},
                                          {10, {10, 0, 0, 2}, 3},
                                          {30, {10, 0, 0, 3}, 4},
                                          {20, {10, 0, 0, 1}, 5},
                                          {50, {10, 0, 0, 9}, 6},
                                          {40, {10, 0, 0, 5}, 7}}};
  RelayStatus status;
  status.now = kNow;
  status.started_at = kNow - std::chrono::hours(20);
  status.at = WallTime(seconds(2'000'000'000));
  status.started_wall = status.at - std::chrono::hours(20);
  status.totals.current_connections = 7;
  status.totals.clients_local = 5;
  for (std::size_t i = 0; i < kMade.size(); ++i) {
    ClientStatus client;
    client.identity.id = i + 1;
    client.identity.key = numbered_key(kMade[i].key);
    client.identity.address = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    std::ranges::copy(kMade[i].ip, client.identity.address.begin() + 12);
    client.identity.port = kMade[i].port;
    client.identity.connected_at = kNow - minutes(10 * (i + 1));
    client.identity.version = 2;
    client.received = {.packets = i / 2, .bytes = i * 7 % 5};
    client.sent_packets = i % 3;
    client.sent_bytes = 1000 - i * 100;
    if (i < 2) client.identity.app_name = i == 0 ? "one" : "two <2>";
    status.clients.push_back(client);
  }
  return status;
}

http::Request request(std::string query) {
  http::Request made;
  made.method = "GET";
  made.path = "/debug/clients/";
  made.target = "/debug/clients/?" + query;
  made.query = std::move(query);
  return made;
}

json ask_json(const RelayStatus& status, const std::string& query) {
  const auto response = answer_clients(request(query + "&format=json"), status);
  EXPECT_EQ(response.status, 200U) << response.body;
  return json::parse(response.body);
}

std::vector<int> conns(const json& page) {
  std::vector<int> numbers;
  for (const auto& client : page["clients"]) numbers.push_back(client["connNum"]);
  return numbers;
}

/// The numbers on all pages, by following what each says of the next.
std::vector<int> walk(const RelayStatus& status, std::string query, std::size_t* pages) {
  std::vector<int> numbers;
  for (*pages = 0; !query.empty() && *pages < 100; ++*pages) {
    const auto response = answer_clients(request(query), status);
    const auto page = json::parse(response.body);
    const auto here = conns(page);
    numbers.insert(numbers.end(), here.begin(), here.end());
    query = page.contains("next") ? page["next"].get<std::string>().substr(1) : "";
  }
  return numbers;
}

TEST(AnswerClients, SortsAndPagesThroughAll) {
  struct Case {
    std::string_view sort;
    std::vector<int> order;
  };
  const Case cases[] = {{"key", {1, 2, 3, 5, 4, 7, 6}},    {"ip", {1, 5, 2, 3, 4, 7, 6}},
                        {"conn", {1, 2, 3, 4, 5, 6, 7}},   {"connected", {7, 6, 5, 4, 3, 2, 1}},
                        {"rx", {1, 6, 4, 2, 7, 5, 3}},     {"tx", {7, 6, 5, 4, 3, 2, 1}},
                        {"rxpkts", {1, 2, 3, 4, 5, 6, 7}}, {"txpkts", {1, 4, 7, 2, 5, 3, 6}}};
  const auto status = seven();
  for (const auto& [sort, order] : cases) {
    for (const bool descending : {false, true}) {
      auto wanted = order;
      if (descending) std::ranges::reverse(wanted);
      for (const std::size_t limit : {1U, 2U, 3U, 7U, 100U}) {
        SCOPED_TRACE(std::string(sort) + (descending ? " descending " : " ") +
                     std::to_string(limit));
        std::size_t pages = 0;
        EXPECT_EQ(walk(status,
                       "all&format=json&sort=" + std::string(descending ? "-" : "") +
                           std::string(sort) + "&limit=" + std::to_string(limit),
                       &pages),
                  wanted);
        EXPECT_EQ(pages, (7 + limit - 1) / limit);
      }
    }
  }
}

TEST(AnswerClients, FiltersByAddressRangeKeyAndApp) {
  struct Case {
    std::string query;
    std::vector<int> conns;
    int keys;
    std::string description;
  };
  const std::string key = numbered_key(10).typed();
  const Case cases[] = {
      {"all", {1, 2, 3, 5, 4, 7, 6}, 5, "all clients"},
      {"ip=10.0.0.2", {2, 3}, 1, "clients from 10.0.0.2"},
      {"ip=::ffff:10.0.0.2", {2, 3}, 1, "clients from 10.0.0.2"},
      {"cidr=10.0.0.0/30", {1, 2, 3, 5, 4}, 3, "clients from 10.0.0.0/30"},
      {"cidr=172.16.0.0/12", {}, 0, "clients from 172.16.0.0/12"},
      {"key=" + key, {1, 2, 3}, 1, "connections for " + key},
      {"app=one", {1}, 1, "all clients with app one"},
      {"app=one&app=two+%3C2%3E", {1, 2}, 1, "all clients with app one or two <2>"},
      {"app=", {3, 5, 4, 7, 6}, 5, "all clients with app (none)"},
      {"ip=10.0.0.2&app=one", {}, 0, "clients from 10.0.0.2 with app one"},
      {"all&ip=", {1, 2, 3, 5, 4, 7, 6}, 5, "all clients"},
  };
  const auto status = seven();
  for (const auto& [query, wanted, keys, description] : cases) {
    SCOPED_TRACE(query);
    const auto page = ask_json(status, query);
    EXPECT_EQ(conns(page), wanted);
    EXPECT_EQ(page["conns"], wanted.size());
    EXPECT_EQ(page["keys"], keys);
    EXPECT_EQ(page["query"], description);
    EXPECT_EQ(page["remaining"], 0);
    EXPECT_FALSE(page.contains("next"));
  }
}

TEST(AnswerClients, BeginsBehindACursorThatAPersonWrote) {
  const auto status = seven();
  const auto after = [&](const std::string& query) { return conns(ask_json(status, query)); };
  using Conns = std::vector<int>;
  EXPECT_EQ(after("all&sort=key&after=" + numbered_key(10).typed()), (Conns{5, 4, 7, 6}));
  EXPECT_EQ(after("all&sort=ip&after=10.0.0.2"), (Conns{4, 7, 6}));
  EXPECT_EQ(after("all&sort=-ip&after=10.0.0.2"), (Conns{5, 1}));
  EXPECT_EQ(after("all&sort=ip&after=10.0.0.2:2"), (Conns{3, 4, 7, 6}));
  EXPECT_EQ(after("all&sort=conn&after=5"), (Conns{6, 7}));
  EXPECT_EQ(after("all&sort=connected&after=35m"), (Conns{3, 2, 1}));
  EXPECT_EQ(after("all&sort=-connected&after=0.5h300s"), (Conns{4, 5, 6, 7}));
  EXPECT_EQ(after("all&sort=-tx&after=800"), (Conns{4, 5, 6, 7}));
  EXPECT_EQ(after("all&sort=rxpkts&after=1&afterconn=3"), (Conns{4, 5, 6, 7}));
}

TEST(AnswerClients, SaysEverythingAboutAConnection) {
  auto status = seven();
  auto& client = status.clients[2];
  client.is_home = client.is_duplicate = client.is_active = true;
  client.identity.is_prober = true;
  const auto page = ask_json(status, "all&sort=conn&after=2&limit=1");
  EXPECT_EQ(page["clients"][0],
            json::parse(R"({"connNum":3,"key":")" + numbered_key(10).typed() +
                        R"(","remote":"10.0.0.2:3","connectedAt":"2033-05-18T03:03:20.000000000Z",
                           "connected":1800000000000,"active":true,"dup":true,"disabled":false,
                           "home":true,"meshPeer":false,"notIdeal":false,"prober":true,"version":2,
                           "appName":"","rxPkts":1,"rxBytes":4,"txPkts":2,"txBytes":800,
                           "senders":0})"));
  EXPECT_EQ(page["next"], "?after=3&all=1&format=json&limit=1&sort=conn");
}

TEST(AnswerClients, ShowsAPageForPeople) {
  auto status = seven();
  status.clients[1].is_duplicate = status.clients[1].is_home = true;
  const auto response = answer_clients(request("all&sort=-tx&limit=2"), status);
  EXPECT_EQ(response.status, 200U);
  const std::string& body = response.body;
  EXPECT_TRUE(says(body, "Showing 2 of 7 matching connections (5 node keys)"));
  EXPECT_TRUE(says(body, "(5 more)"));
  EXPECT_TRUE(says(
      body, "href=\"?after=900&amp;afterconn=2&amp;all=1&amp;limit=2&amp;sort=-tx\">Next page"));
  EXPECT_TRUE(says(body, "<a href=\"?all=1&amp;limit=2&amp;sort=tx\">tx bytes</a> ▼"));
  EXPECT_TRUE(says(body, "<a href=\"?app=two+%3C2%3E\">two &lt;2&gt;</a>"));
  EXPECT_TRUE(says(body, "<td>home dup-active</td>"));
  EXPECT_TRUE(says(body, "<td>10m0s</td>"));
  const auto last = answer_clients(request("all"), status);
  EXPECT_EQ(last.body.find("Next page"), std::string::npos);
}

TEST(AnswerClients, HasAnIndex) {
  const auto status = seven();
  const auto page = answer_clients(request(""), status);
  EXPECT_TRUE(says(page.body, "7 connections for 5 node keys"));
  for (const std::string name : {"all", "ip", "cidr", "key", "app"})
    EXPECT_TRUE(says(page.body, "name=\"" + name + "\""));
  EXPECT_EQ(answer_clients(request("format=json"), status).body, "{\"conns\":7,\"keys\":5}\n");
  // Parameters of a list alone ask for none.
  EXPECT_TRUE(says(answer_clients(request("sort=tx"), status).body, "7 connections"));
}

TEST(AnswerClients, RefusesWhatItDoesNotUnderstand) {
  struct Case {
    std::string_view query;
    std::string_view says;
  };
  constexpr Case kCases[] = {
      {"all&format=xml", "bad format \"xml\""},
      {"ip=bogus", "bad ip"},
      {"cidr=10.0.0.0", "bad cidr"},
      {"key=8cde7aa8", "bad key"},
      {"all&sort=age", "bad sort"},
      {"all&sort=--tx", "bad sort"},
      {"all&limit=0", "bad limit"},
      {"all&limit=-1", "bad limit"},
      {"all&limit=x", "bad limit"},
      {"all&sort=conn&after=nodekey:00", "bad after"},
      {"all&sort=key&after=7", "bad after"},
      {"all&sort=ip&after=x:1", "bad after"},
      {"all&sort=rx&after=-1", "bad after"},
      {"all&sort=connected&after=soon", "bad after"},
      {"all&sort=connected&after=1x", "bad after"},
      {"all&sort=conn&after=1&afterconn=x", "bad afterconn"},
      {"all=1&ip=10.1.2.3", "only one of"},
  };
  for (const auto& [query, text] : kCases) {
    SCOPED_TRACE(query);
    const auto response = answer_clients(request(std::string(query)), seven());
    EXPECT_EQ(response.status, 400U);
    EXPECT_TRUE(says(response.body, text));
  }
}

TEST(AnswerClients, BoundsAPage) {
  RelayStatus status;
  status.now = kNow;
  for (std::uint32_t i = 0; i < 1001; ++i) {
    ClientStatus client;
    client.identity.id = i + 1;
    client.identity.key = numbered_key(i);
    status.clients.push_back(client);
  }
  EXPECT_EQ(ask_json(status, "all")["clients"].size(), 100U);
  EXPECT_EQ(ask_json(status, "all&limit=1000")["clients"].size(), 1000U);
  const auto page = ask_json(status, "all&limit=1001");
  EXPECT_EQ(page["clients"].size(), 1000U);
  EXPECT_EQ(page["remaining"], 1);
}

TEST(TrafficStream, TellsOfThoseWhoseBytesGrew) {
  auto status = seven();
  status.clients.resize(3);
  status.clients[0].tcp = ClientStatus::Tcp{.sent_bytes = 100, .received_bytes = 50};
  status.clients[1].tcp = ClientStatus::Tcp{.sent_bytes = 0, .received_bytes = 1};
  TrafficStream stream;
  const std::string key = numbered_key(10).typed();
  EXPECT_EQ(stream.next(status), "{\"Sent\":100,\"Recv\":50,\"Key\":\"" + key +
                                     "\"}\n{\"Sent\":0,\"Recv\":1,\"Key\":\"" + key + "\"}\n\n");
  EXPECT_EQ(stream.next(status), "\n");
  status.clients[0].tcp->received_bytes = 51;
  status.clients[2].tcp = ClientStatus::Tcp{};
  EXPECT_EQ(stream.next(status), "{\"Sent\":100,\"Recv\":51,\"Key\":\"" + key + "\"}\n\n");
}

}  // namespace
}  // namespace detour::admin
