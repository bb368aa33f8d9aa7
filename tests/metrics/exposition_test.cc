#include "metrics/exposition.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace detour::metrics {
namespace {

using nlohmann::json;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

std::string testdata(const std::string& name) {
  std::ifstream file(std::string(DETOUR_TESTDATA) + "/" + name);
  EXPECT_TRUE(file.good()) << name;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// Name and labels of a sample, or the whole line of a comment.
std::string without_value(const std::string& line) {
  return line.starts_with('#') ? line : line.substr(0, line.rfind(' '));
}

bool has_line(const std::string& text, const std::string& line) {
  return std::ranges::count(lines_of(text), line) == 1;
}

/// What an idle derper exports and we do not: its Go runtime, and what it cannot export itself.
bool is_go_alone(const std::string& line) {
  for (const std::string_view word :
       {"memstats_heap_alloc", "memstats_total_alloc", "memstats_sys ", "memstats_mallocs",
        "memstats_frees", "memstats_num_gc", "memstats_gc_cpu", "goroutines", "# skipping",
        "process_network_", "process_virtual_memory_max_bytes", "version{"}) {
    if (line.find(word) != std::string::npos) return true;
  }
  return line.ends_with("memstats_sys");
}

TEST(FormatPrometheus, HasEveryLineOfAnIdleDerperInItsOrder) {
  // Taken from derper v1.102.5 right after its start, without the lines of the Go runtime.
  Snapshot snapshot;
  snapshot.process.boot_unix_seconds = 1;
  std::vector<std::string> ours;
  for (const auto& line : lines_of(format_prometheus(snapshot))) {
    ours.push_back(without_value(line));
  }
  auto position = ours.begin();
  for (const auto& line : lines_of(testdata("derper-1.102.5.varz"))) {
    if (is_go_alone(line)) continue;
    const auto found = std::find(position, ours.end(), without_value(line));
    ASSERT_NE(found, ours.end()) << "missing or out of order: " << line;
    position = found + 1;
  }
}

TEST(FormatPrometheus, SaysNothingTwice) {
  Snapshot snapshot;
  snapshot.process.boot_unix_seconds = 1;
  std::map<std::string, int> seen;
  for (const auto& line : lines_of(format_prometheus(snapshot))) {
    EXPECT_EQ(++seen[without_value(line)], 1) << line;
  }
}

TEST(FormatPrometheus, IsZeroFromTheStartForAllDrops) {
  const auto text = format_prometheus({});
  for (const auto metric : {"derp_packets_dropped", "derp_bytes_dropped"}) {
    const auto lines = lines_of(text);
    EXPECT_EQ(std::ranges::count_if(lines,
                                    [&](const std::string& line) {
                                      return line.starts_with(std::string(metric) + "{") &&
                                             line.ends_with("} 0");
                                    }),
              14)
        << metric;
  }
}

TEST(FormatPrometheus, GivesWhatTheWorkersCounted) {
  WorkerCounters a;
  WorkerCounters b;
  a.accepts.add(3);
  b.accepts.add(4);
  a.received[0].packets.add(1);
  a.received[0].bytes.add(62);
  b.received[1].packets.add(2);
  b.received[1].bytes.add(2800);
  b.sent[1].packets.add(2);
  b.sent[1].bytes.add(2800);
  a.drop(DropReason::kUnknownDest, PacketKind::kDisco, 62);
  b.drop(DropReason::kUnknownDest, PacketKind::kDisco, 62);
  b.drop(DropReason::kQueueHead, PacketKind::kOther, 1400);
  // A client that came on one worker and left on the other, and one that stays.
  a.current_connections.add(2);
  b.current_connections.sub();
  a.tls_requests[3].add(5);
  b.tls_active[0].add(1);
  a.buffered_write_frames.observe(1);
  b.buffered_write_frames.observe(7);
  b.buffered_write_frames.observe(1000);
  a.average_queue_duration_ms.store(1.5);
  a.stun_success.add(9);
  a.stun_no_local_addr.add(2);
  b.tcp_accepted.add(11);
  b.logins.add(6);

  Snapshot snapshot;
  accumulate(snapshot, a);
  accumulate(snapshot, b);
  const auto text = format_prometheus(snapshot);
  for (const auto line : {"derp_accepts 7",
                          "derp_packets_received 3",
                          "derp_bytes_received 2862",
                          "derp_packets_received_kind{kind=\"disco\"} 1",
                          "derp_packets_received_kind{kind=\"other\"} 2",
                          "derp_packets_sent 2",
                          "derp_bytes_sent 2800",
                          "derp_packets_dropped{reason=\"unknown_dest\",kind=\"disco\"} 2",
                          "derp_bytes_dropped{reason=\"unknown_dest\",kind=\"disco\"} 124",
                          "derp_bytes_dropped{reason=\"queue_head\",kind=\"other\"} 1400",
                          "derp_current_connections 1",
                          "derper_tls_request_version{version=\"1.3\"} 5",
                          "derper_tls_request_version{version=\"1.2\"} 0",
                          "derper_tls_active_version{version=\"1.0\"} 1",
                          "derp_buffered_write_frames_bucket{le=\"0\"} 0",
                          "derp_buffered_write_frames_bucket{le=\"1\"} 1",
                          "derp_buffered_write_frames_bucket{le=\"6\"} 1",
                          "derp_buffered_write_frames_bucket{le=\"7\"} 2",
                          "derp_buffered_write_frames_bucket{le=\"100\"} 2",
                          "derp_buffered_write_frames_bucket{le=\"+Inf\"} 3",
                          "derp_buffered_write_frames_sum 1008",
                          "derp_buffered_write_frames_count 3",
                          "derp_average_queue_duration_ms 1.5",
                          "stun_requests{disposition=\"success\"} 9",
                          "stun_no_local_addr 2",
                          "tls_listener_accepted_connections 11",
                          "detour_logins_total 6",
                          "# TYPE detour_logins_total counter"}) {
    EXPECT_TRUE(has_line(text, line)) << line;
  }
  EXPECT_FALSE(text.contains("derper_tls_request_version{version=\"1.0\"}"));
}

TEST(FormatPrometheus, GivesWhatTheCallerFilledIn) {
  Snapshot snapshot;
  snapshot.clients_local = 5;
  snapshot.clients_remote = 2;
  snapshot.current_dup_client_keys = 1;
  snapshot.current_dup_client_conns = 3;
  snapshot.total_dup_client_conns = 4;
  snapshot.process = {.cpu_seconds = 1.25,
                      .resident_bytes = 12345678,
                      .virtual_bytes = 1,
                      .open_fds = 14,
                      .max_fds = 20000,
                      .start_unix_seconds = 1795253488.75,
                      .boot_unix_seconds = 1795251257};
  snapshot.memory_at_start_bytes = 777;
  snapshot.uptime_seconds = 60;
  snapshot.version = "0.1 \"x\"\\";
  const auto text = format_prometheus(snapshot);
  for (const auto line : {"derp_clients_local 5", "derp_clients_remote 2", "derp_clients_total 7",
                          "derp_current_dup_client_keys 1", "derp_current_dup_client_conns 3",
                          "derp_total_dup_client_conns 4", "process_cpu_seconds_total 1.25",
                          "process_resident_memory_bytes 12345678", "process_open_fds 14",
                          "process_max_fds 20000", "process_start_time_seconds 1795253488.75",
                          "process_start_unix_time 1795253488", "node_boot_time_seconds 1795251257",
                          "derp_memstats_sys0 777", "derp_current_file_descriptors 14",
                          "uptime_sec 60", R"(version{version="0.1 \"x\"\\",binary="detour"} 1)"}) {
    EXPECT_TRUE(has_line(text, line)) << line;
  }
}

TEST(FormatPrometheus, LeavesOutTheTlsListenerWhereThereIsNone) {
  Snapshot snapshot;
  snapshot.has_tls_listener = false;
  EXPECT_FALSE(format_prometheus(snapshot).contains("tls_listener"));
  EXPECT_FALSE(format_expvar_json(snapshot).contains("tls_listener"));
}

TEST(FormatPrometheus, HasTheReceiveRateOnlyWhereAFileSetsIt) {
  Snapshot snapshot;
  snapshot.rate_limit_bytes_per_second = 1250000;
  snapshot.rate_limit_burst_bytes = 2500000;
  snapshot.rate_limit_waits = 3;
  EXPECT_EQ(format_prometheus(snapshot).find("rate_limit"), std::string::npos);
  snapshot.has_rate_config = true;
  const std::string text = format_prometheus(snapshot);
  EXPECT_TRUE(has_line(text, "derp_rate_limit_per_client_bytes_per_second 1250000"));
  EXPECT_TRUE(has_line(text, "derp_rate_limit_per_client_burst_bytes 2500000"));
  EXPECT_TRUE(has_line(text, "# TYPE derp_rate_limit_per_client_waited counter"));
  EXPECT_TRUE(has_line(text, "derp_rate_limit_per_client_waited 3"));
  EXPECT_EQ(text.find("# TYPE derp_rate_limit_per_client_b"), std::string::npos);
}

TEST(FormatPrometheus, EndsEachLineAndHasOnlySamplesAndComments) {
  Snapshot snapshot;
  snapshot.process.boot_unix_seconds = 1;
  const auto text = format_prometheus(snapshot);
  ASSERT_TRUE(text.ends_with('\n'));
  for (const auto& line : lines_of(text)) {
    if (line.starts_with("# HELP ") || line.starts_with("# TYPE ")) continue;
    const auto space = line.rfind(' ');
    ASSERT_NE(space, std::string::npos) << line;
    EXPECT_NO_THROW((void)std::stod(line.substr(space + 1))) << line;
  }
}

TEST(FormatExpvarJson, HasTheShapeOfAnIdleDerper) {
  Snapshot snapshot;
  snapshot.process.boot_unix_seconds = 1;
  const json ours = json::parse(format_expvar_json(snapshot));
  const json theirs = json::parse(testdata("derper-1.102.5.vars.json"));
  // Its Go runtime, and a gauge that is gone in v1.104.
  const std::vector<std::string> left_out = {"gauge_goroutines", "go_version",
                                             "go_sync_mutex_wait_seconds"};
  for (const auto& [key, value] : theirs.items()) {
    if (std::ranges::count(left_out, key) != 0) continue;
    SCOPED_TRACE(key);
    ASSERT_TRUE(ours.contains(key));
    EXPECT_EQ(ours[key].type_name(), std::string(value.type_name()));
    if (!value.is_object()) continue;
    for (const auto& [inner_key, inner_value] : value.items()) {
      SCOPED_TRACE(inner_key);
      ASSERT_TRUE(ours[key].contains(inner_key));
      EXPECT_EQ(ours[key][inner_key].type_name(), std::string(inner_value.type_name()));
    }
  }
}

TEST(FormatExpvarJson, GivesTheSameNumbers) {
  WorkerCounters worker;
  worker.got_ping.add(3);
  worker.buffered_write_frames.observe(2);
  worker.drop(DropReason::kQueueHead, PacketKind::kOther, 1400);
  Snapshot snapshot;
  accumulate(snapshot, worker);
  snapshot.version = "0.1.0";
  const json vars = json::parse(format_expvar_json(snapshot));
  EXPECT_EQ(vars["derp"]["got_ping"], 3);
  EXPECT_EQ(vars["derp"]["counter_buffered_write_frames"]["1"], 0);
  EXPECT_EQ(vars["derp"]["counter_buffered_write_frames"]["2"], 1);
  EXPECT_EQ(vars["derp"]["counter_buffered_write_frames"]["+Inf"], 1);
  EXPECT_EQ(vars["derp"]["counter_buffered_write_frames"]["count"], 1);
  EXPECT_EQ(vars["derp"]["version"], "0.1.0");
  EXPECT_EQ(vars["version"], "0.1.0");
  EXPECT_EQ(vars["derp_packets_dropped"], "MultiLabelMap");
}

}  // namespace
}  // namespace detour::metrics
