#include "admin/status.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <string>
#include <vector>

#include "support/frames.h"

namespace detour::admin {
namespace {

using std::chrono::seconds;
using test::numbered_key;

constexpr TimePoint kNow{seconds(1000)};

ClientStatus client(std::uint32_t number) {
  ClientStatus made;
  made.identity.id = number;
  made.identity.key = numbered_key(number);
  made.identity.connected_at = kNow - seconds(number);
  made.identity.address = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7};
  made.identity.port = 4000;
  return made;
}

RelayStatus status_of(std::vector<ClientStatus> clients) {
  RelayStatus status;
  status.now = kNow;
  status.clients = std::move(clients);
  return status;
}

std::vector<relay::ClientId> ids(const RelayStatus& status, ClientOrder order,
                                 std::size_t limit = 100) {
  std::vector<relay::ClientId> ids;
  for (const auto* one : select_clients(status, {.order = order, .limit = limit}))
    ids.push_back(one->identity.id);
  return ids;
}

TEST(SelectClients, SortsByWhatIsAskedForAndThenByAge) {
  auto first = client(1);
  auto second = client(2);
  auto third = client(3);
  first.received.bytes = 5;
  third.received.bytes = 9;
  second.sent_bytes = 7;
  second.received_per_second = 3.0;
  third.sent_per_second = 4.0;
  first.evicted_packets = 1;
  third.received.unknown_dest = 2;
  second.waiting_bytes = 1;
  second.tcp = ClientStatus::Tcp{.round_trip_time = std::chrono::microseconds(10)};
  third.name = "alice";
  first.name = "bob";
  first.identity.port = 9000;
  const auto status = status_of({first, second, third});
  using Ids = std::vector<relay::ClientId>;
  EXPECT_EQ(ids(status, ClientOrder::kRate), (Ids{3, 2, 1}));
  EXPECT_EQ(ids(status, ClientOrder::kReceived), (Ids{3, 1, 2}));
  EXPECT_EQ(ids(status, ClientOrder::kSent), (Ids{2, 1, 3}));
  EXPECT_EQ(ids(status, ClientOrder::kDrops), (Ids{3, 1, 2}));
  EXPECT_EQ(ids(status, ClientOrder::kWaiting), (Ids{2, 1, 3}));
  EXPECT_EQ(ids(status, ClientOrder::kRtt), (Ids{2, 1, 3}));
  EXPECT_EQ(ids(status, ClientOrder::kConnected), (Ids{1, 2, 3}));
  EXPECT_EQ(ids(status, ClientOrder::kName), (Ids{3, 1, 2}));
  EXPECT_EQ(ids(status, ClientOrder::kKey), (Ids{1, 2, 3}));
  EXPECT_EQ(ids(status, ClientOrder::kAddress), (Ids{2, 3, 1}));
  EXPECT_EQ(ids(status, ClientOrder::kKey, 2), (Ids{1, 2}));
  EXPECT_EQ(ids(status, ClientOrder::kKey, 0), Ids{});
}

TEST(ParseClientSelection, TakesOrdersAndBoundsTheNumber) {
  std::string problem;
  EXPECT_EQ(parse_client_selection("", problem)->limit, 1000U);
  EXPECT_EQ(parse_client_selection("limit=10000", problem)->limit, kClientsListedMax);
  EXPECT_EQ(parse_client_selection("limit=10001", problem)->limit, kClientsListedMax);
  EXPECT_EQ(parse_client_selection("sort=rtt&limit=5", problem)->order, ClientOrder::kRtt);
  EXPECT_TRUE(problem.empty());
  EXPECT_FALSE(parse_client_selection("sort=size", problem).has_value());
  EXPECT_NE(problem.find("sort=size: there is no such order; use one of rate,"), std::string::npos);
  for (const std::string limit : {"-1", "", "x", "1x", "99999999999999999999"}) {
    problem.clear();
    EXPECT_FALSE(parse_client_selection("limit=" + limit, problem).has_value()) << limit;
    EXPECT_FALSE(problem.empty());
  }
  // Each name in the message is one.
  std::string_view names = kClientOrders;
  for (std::size_t count = 0; !names.empty(); ++count) {
    const auto name = names.substr(0, names.find(','));
    EXPECT_TRUE(parse_client_order(name).has_value()) << name;
    names.remove_prefix(std::min(names.size(), name.size() + 2));
  }
}

TEST(AddRates, ComparesWithThePictureBefore) {
  auto before = status_of({client(1)});
  before.clients[0].received.bytes = 1000;
  before.totals.received[1].bytes = 1000;
  auto now = status_of({client(1), client(2)});
  now.now = kNow + seconds(2);
  now.clients[0].received.bytes = 3000;
  now.clients[1].sent_bytes = 100;
  now.totals.received[1].bytes = 3000;
  now.totals.sent[0].bytes = 50;
  add_rates(now, before);
  EXPECT_EQ(now.clients[0].received_per_second, 1000);
  EXPECT_EQ(now.clients[1].sent_per_second, 50) << "who came meanwhile did all of it since";
  EXPECT_EQ(now.received_per_second, 1000);
  EXPECT_EQ(now.sent_per_second, 25);

  auto too_soon = status_of({client(1)});
  too_soon.now = kNow + std::chrono::milliseconds(99);
  add_rates(too_soon, before);
  EXPECT_FALSE(too_soon.clients[0].received_per_second.has_value());
}

TEST(JoinPairs, PutsBothWaysTogetherAndKeepsTheLargest) {
  const auto key = [](std::uint32_t number) { return numbered_key(number); };
  const std::vector<relay::PairSampler::Report> reports = {
      {.pairs = {{key(2), key(1), 3, 300}, {key(1), key(2), 1, 100}}},
      {.pairs = {{key(1), key(2), 1, 50}, {key(3), key(3), 1, 10}, {key(1), key(4), 9, 900}}}};
  const auto pairs = join_pairs(reports, 2);
  ASSERT_EQ(pairs.size(), 2U);
  EXPECT_EQ(pairs[0].b, key(4));
  EXPECT_EQ(pairs[1].a, key(1));
  EXPECT_EQ(pairs[1].bytes_from_a, 150U);
  EXPECT_EQ(pairs[1].bytes_from_b, 300U);
  EXPECT_EQ(pairs[1].packets, 5U);
}

TEST(FormatStatusJson, SaysEverythingAboutAClient) {
  auto one = client(5);
  one.identity.app_name = "app";
  one.identity.is_prober = true;
  one.is_home = true;
  one.is_duplicate = true;
  one.is_active = false;
  one.name = "b\xff\"d";
  one.tls = "1.3";
  one.received = {.packets = 1, .bytes = 2, .unknown_dest = 3};
  one.tcp = ClientStatus::Tcp{.round_trip_time = std::chrono::microseconds(1234)};
  const auto status = status_of({one, client(6)});
  const auto text = format_status_json(status, {.order = ClientOrder::kKey, .limit = 1});
  const auto json = nlohmann::json::parse(text);
  EXPECT_EQ(json["totals"]["clients"], 2);
  ASSERT_EQ(json["clients"].size(), 1U);
  const auto& told = json["clients"][0];
  EXPECT_EQ(told["key"], numbered_key(5).typed());
  EXPECT_EQ(told["address"], "192.0.2.7:4000");
  EXPECT_EQ(told["connectedSeconds"], 5.0);
  EXPECT_EQ(told["flags"].dump(), R"(["home","prober","duplicate","inactive"])");
  EXPECT_EQ(told["receivedBytes"], 2);
  EXPECT_TRUE(told["receivedPerSecond"].is_null());
  EXPECT_EQ(told["dropped"]["unknown_dest"], 3);
  EXPECT_EQ(told["tcp"]["rttMs"], 1.23);
  EXPECT_EQ(told["tls"], "1.3");
}

TEST(FormatStatusJson, SaysHowLongCertificatesLast) {
  auto status = status_of({});
  status.at = WallTime(seconds(1'000'000));
  status.certificates = {{.name = "good",
                          .is_serving = true,
                          .not_before = status.at - std::chrono::hours(24),
                          .not_after = status.at + std::chrono::hours(36)},
                         {.name = "late", .is_serving = true, .not_after = status.at - seconds(1)},
                         {.name = "none", .last_error = "refused"}};
  const auto json = nlohmann::json::parse(format_status_json(status, {}));
  EXPECT_EQ(json["certificates"][0]["daysLeft"], 1.5);
  EXPECT_EQ(json["certificates"][0]["lifetimeDays"], 2.5);
  EXPECT_TRUE(json["certificates"][2]["lifetimeDays"].is_null());
  EXPECT_EQ(json["certificates"][0]["notAfter"], "1970-01-14T01:46:40Z");
  EXPECT_EQ(json["certificates"][1]["daysLeft"], 0.0);
  EXPECT_TRUE(json["certificates"][2]["daysLeft"].is_null());
  EXPECT_EQ(json["certificates"][2]["lastError"], "refused");
}

TEST(AddressText, PutsIpv6IntoBrackets) {
  relay::Client::Identity identity;
  identity.address = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  identity.port = 443;
  EXPECT_EQ(address_text(identity), "[2001:db8::1]:443");
}

}  // namespace
}  // namespace detour::admin
