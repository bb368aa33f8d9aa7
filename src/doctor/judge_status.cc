#include "doctor/judge_status.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <string>
#include <utility>

namespace detour::doctor {

namespace {

using Json = nlohmann::json;

/// A TCP segment on most paths.
constexpr double kSegmentBytes = 1400;

double number(const Json& object, const char* field) {
  if (!object.is_object()) return 0;
  const auto found = object.find(field);
  return found != object.end() && found->is_number() ? found->get<double>() : 0;
}

std::string text(const Json& object, const char* field) {
  const auto found = object.find(field);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

const Json& list(const Json& object, const char* field) {
  static const Json nothing = Json::array();
  const auto found = object.find(field);
  return found != object.end() && found->is_array() ? *found : nothing;
}

/// The allow file's name for a key, or the key.
std::string name_or(const std::string& name, const std::string& key) {
  return name.empty() ? key : name;
}

/// The share that something has in one client, and who that is.
struct Worst {
  double share = 0;
  std::string who;
  int over = 0;    ///< Clients above the limit.
  int judged = 0;  ///< Clients that can be judged.

  void note(double other, double limit, const Json& client) {
    ++judged;
    if (other > limit) ++over;
    if (other <= share) return;
    share = other;
    who = name_or(text(client, "name"), text(client, "shortKey"));
  }
};

void judge_paths(const Json& status, std::vector<Finding>* findings) {
  Worst resent;
  Worst dropped;
  std::vector<double> round_trips;
  for (const Json& client : list(status, "clients")) {
    if (!client.is_object()) continue;
    const double packets = number(client, "sentPackets");
    const double evicted = client.contains("dropped") ? number(client["dropped"], "queue_head") : 0;
    if (packets + evicted > 0 && number(client, "sentBytes") >= kJudgedBytesMin)
      dropped.note(evicted / (packets + evicted), kDroppedShareMax, client);
    if (!client.contains("tcp") || !client["tcp"].is_object()) continue;
    const Json& tcp = client["tcp"];
    round_trips.push_back(number(tcp, "rttMs"));
    const double bytes = number(tcp, "sentBytes");
    if (bytes >= kJudgedBytesMin)
      resent.note(number(tcp, "retransmissions") / (bytes / kSegmentBytes), kRetransmittedShareMax,
                  client);
  }
  if (resent.over > 0)
    findings->push_back(
        {.state = State::kWarn,
         .code = "D27",
         .fault = "loss",
         .cause = fmt::format("the paths to {} of {} clients lose more than {:.0f} % of what is "
                              "sent (worst: {:.0f} % to {})",
                              resent.over, resent.judged, kRetransmittedShareMax * 100,
                              resent.share * 100, resent.who),
         .fix = "The line is full or bad, and TCP inside TCP suffers most: switch to BBR (D26), "
                "limit what each client may send (--rate-config), or move the relay."});
  if (dropped.over > 0)
    findings->push_back(
        {.state = State::kWarn,
         .code = "D27",
         .fault = "slow-clients",
         .cause = fmt::format("{} of {} clients do not take what is sent to them in time (worst: "
                              "{:.0f} % dropped for {})",
                              dropped.over, dropped.judged, dropped.share * 100, dropped.who),
         .fix = "Their line, or this machine's, is full: detour top shows who fills it."});
  if (resent.over + dropped.over > 0 || round_trips.empty()) return;
  const auto middle = round_trips.begin() + static_cast<std::ptrdiff_t>(round_trips.size() / 2);
  std::ranges::nth_element(round_trips, middle);
  findings->push_back(
      {.state = State::kPass,
       .code = "D27",
       .fault = "",
       .cause = fmt::format("{} clients, round trip {:.0f} ms in the middle and {:.0f} ms at most; "
                            "{:.1f} % sent again at worst",
                            round_trips.size(), *middle, std::ranges::max(round_trips),
                            resent.share * 100),
       .fix = ""});
}

void judge_pairs(const Json& status, std::vector<Finding>* findings) {
  // A burst right behind the start is not judged as if it went on.
  const double seconds = std::max(number(status, "pairsSeconds"), kPairSecondsMin);
  for (const Json& pair : list(status, "pairs")) {
    if (!pair.is_object()) continue;
    const double bits = (number(pair, "bytesFromA") + number(pair, "bytesFromB")) * 8 / seconds;
    if (bits < kHeavyPairBits) continue;
    findings->push_back(
        {.state = State::kInfo,
         .code = "D33",
         .fault = "heavy-pair",
         .cause = fmt::format("{} and {} relay {:.0f} Mbit/s through here",
                              name_or(text(pair, "nameA"), text(pair, "a")),
                              name_or(text(pair, "nameB"), text(pair, "b")), bits / 1e6),
         .fix = "They have no direct path. Open UDP on one side, or make a node that both reach a "
                "peer relay: tailscale set --relay-server-port=40000"});
    return;  // The list begins with the heaviest; one line says it.
  }
}

}  // namespace

std::vector<Finding> judge_status(std::string_view status) {
  const Json parsed = Json::parse(status, nullptr, /*allow_exceptions=*/false);
  std::vector<Finding> findings;
  if (!parsed.is_object()) return findings;
  judge_paths(parsed, &findings);
  judge_pairs(parsed, &findings);
  return findings;
}

}  // namespace detour::doctor
