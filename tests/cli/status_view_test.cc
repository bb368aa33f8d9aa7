#include "cli/status_view.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <sstream>
#include <string>

#include "admin/status.h"
#include "support/says.h"

namespace detour::cli {
namespace {

using Json = nlohmann::ordered_json;
using test::says;

/// A relay with one of everything, as it says it itself.
admin::RelayStatus one_of_everything() {
  admin::RelayStatus status;
  status.now = TimePoint(std::chrono::seconds(1000));
  status.at = admin::WallTime(std::chrono::seconds(1'700'000'000));
  status.version = "1.2.3";
  status.public_key = "nodekey:ab";
  status.workers = 2;
  status.totals.uptime_seconds = 90'061;
  status.totals.received[1] = {.packets = 10, .bytes = 1'500'000};
  status.totals.dropped[0][1] = {.packets = 7, .bytes = 700};
  status.certificates = {{.name = "relay.example",
                          .is_serving = true,
                          .not_after = status.at + std::chrono::hours(24 * 60 + 1)}};
  admin::ClientStatus client;
  client.identity.id = 1;
  client.identity.key = crypto::NodePublic::parse("nodekey:" + std::string(64, 'c')).value();
  client.identity.address = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7};
  client.identity.port = 4000;
  client.identity.connected_at = status.now - std::chrono::seconds(65);
  client.is_home = true;
  client.received = {.packets = 3, .bytes = 2048, .unknown_dest = 4};
  client.evicted_packets = 5;
  client.received_per_second = 1234;
  client.tcp = admin::ClientStatus::Tcp{.round_trip_time = std::chrono::microseconds(12'340)};
  client.name = "laptop";
  status.clients = {client};
  status.pairs = {{.a = client.identity.key,
                   .b = client.identity.key,
                   .bytes_from_a = 5000,
                   .name_a = "laptop"}};
  status.pairs_cover = std::chrono::seconds(10);
  status.mesh = {{.name = "other.example", .is_up = true, .address = "192.0.2.9:443"}};
  return status;
}

Json told(const admin::RelayStatus& status) {
  return Json::parse(admin::format_status_json(status, {}));
}

std::string render(const admin::RelayStatus& status, ViewOptions options = {}) {
  return render_status(told(status), options);
}

TEST(RenderStatus, SaysEverything) {
  const std::string text = render(one_of_everything());
  for (const std::string_view part :
       {"Detour 1.2.3  serving, up 1d 1h", "Received 1.5 MB (-)", "Dropped  unknown_dest 7 packets",
        "Public key  nodekey:ab", "everybody may log in", "relay.example", "60 days left",
        "other.example", "up, 0 B sent to 192.0.2.9:443", "Pairs that talk most (the last 10 s",
        "500 B/s to", "laptop", "192.0.2.7:4000", "1m 5s", "2.0 kB", "1.2 kB/s", "12.3ms", "home"})
    EXPECT_TRUE(says(text, part));
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(troubles(told(one_of_everything())), "");
}

TEST(RenderStatus, PaintsOnATerminalAlone) {
  const std::string text = render(one_of_everything(), {.colour = true});
  EXPECT_TRUE(says(text, "\x1b[32mserving\x1b[0m"));
}

TEST(RenderStatus, ListsSoManyClientsAndSaysHowManyMore) {
  auto status = one_of_everything();
  for (std::uint64_t id = 2; id <= 30; ++id) {
    status.clients.push_back(status.clients[0]);
    status.clients.back().identity.id = id;
  }
  EXPECT_TRUE(says(render(status, {.clients_max = 29}), "and 1 more: --clients 30"));
  EXPECT_EQ(render(status, {.clients_max = 30}).find("more"), std::string::npos);
}

TEST(RenderStatus, LetsNothingFromOutsideReachTheTerminal) {
  auto status = one_of_everything();
  status.clients[0].name = "a\x1b]0;b\a";
  status.mesh[0] = {.name = "x\x1b[2J", .last_failure = "y\r\nz"};
  const std::string text = render(status);
  EXPECT_EQ(text.find_first_of("\x1b\r\a"), std::string::npos);
}

TEST(Troubles, NamesWhatIsNotAsItShouldBe) {
  auto status = one_of_everything();
  status.state = "draining";
  status.unready = "no certificate yet";
  status.silent_workers = {1};
  status.certificates[0].not_after = status.at + std::chrono::hours(24 * 7 - 1);
  status.certificates[0].last_error = "refused";
  status.mesh[0] = {.name = "other", .last_failure = "no route"};
  status.admission = {.is_checking = true,
                      .sources = {{.kind = "url",
                                   .where = "u",
                                   .was_asked = true,
                                   .is_failing = true,
                                   .last_error = "timeout"}},
                      .allow_file = "/allow",
                      .allow_file_is_stale = true};
  EXPECT_EQ(troubles(told(status)),
            "the relay is draining\n"
            "no certificate yet\n"
            "worker 1 does not answer, its clients are missing here\n"
            "certificate for relay.example: refused\n"
            "certificate for relay.example: 6 days left\n"
            "admission by url u: timeout\n"
            "allow file /allow: cannot be read, the list before holds\n"
            "mesh peer other: no route\n");
  const std::string text = render(status);
  EXPECT_TRUE(says(text, "url u  fails: timeout"));
  EXPECT_TRUE(says(text, "down: no route"));

  auto well = one_of_everything();
  well.certificates[0].not_after = well.at + std::chrono::hours(24 * 7);
  EXPECT_EQ(troubles(told(well)), "");
  // One of six days is new most of the time that it has less than a week.
  well.certificates[0].not_before = well.at - std::chrono::hours(24 * 5);
  well.certificates[0].not_after = well.at + std::chrono::hours(24);
  EXPECT_EQ(troubles(told(well)), "");
  well.certificates[0].not_before += std::chrono::hours(1);
  well.certificates[0].not_after -= std::chrono::hours(1);
  EXPECT_EQ(troubles(told(well)), "certificate for relay.example: 0 days left\n");
}

TEST(RenderTop, FitsTheScreen) {
  auto status = one_of_everything();
  status.clients[0].name = "größe-über-alles";
  for (std::uint64_t id = 2; id <= 100; ++id) status.clients.push_back(status.clients[0]);
  for (const bool colour : {false, true}) {
    const std::string screen =
        render_top(told(status), {.colour = colour, .columns = 40}, 20, "drops");
    std::istringstream lines(screen);
    std::string line;
    int count = 0;
    while (std::getline(lines, line)) {
      ++count;
      std::size_t columns = 0;
      for (std::size_t i = 0; i < line.size(); ++i) {
        if (line[i] == '\x1b') {
          i = line.find('m', i);
        } else if ((static_cast<unsigned char>(line[i]) & 0xc0U) != 0x80U) {
          ++columns;
        }
      }
      EXPECT_LE(columns, 40U) << line;
    }
    EXPECT_EQ(count, 20);
    EXPECT_TRUE(says(screen, "Clients by drops"));
  }
}

TEST(BytesText, RoundsToThreeDigits) {
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(999), "999 B");
  EXPECT_EQ(bytes_text(1000), "1.0 kB");
  EXPECT_EQ(bytes_text(99'900), "99.9 kB");
  EXPECT_EQ(bytes_text(999'499), "999 kB");
  EXPECT_EQ(bytes_text(999'500), "1.0 MB");
  EXPECT_EQ(bytes_text(1.5e12), "1.5 TB");
  EXPECT_EQ(bytes_text(5e18), "5000 PB");
}

TEST(TimeText, NamesTheTwoLargestParts) {
  EXPECT_EQ(time_text(-1), "0s");
  EXPECT_EQ(time_text(59.9), "59s");
  EXPECT_EQ(time_text(60), "1m 0s");
  EXPECT_EQ(time_text(3'600), "1h 0m");
  EXPECT_EQ(time_text(90'061), "1d 1h");
}

}  // namespace
}  // namespace detour::cli
