#include "cli/status_view.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

namespace detour::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kReset = "\x1b[0m";
constexpr std::string_view kBold = "\x1b[1m";
constexpr std::string_view kRed = "\x1b[31m";
constexpr std::string_view kGreen = "\x1b[32m";
constexpr std::string_view kYellow = "\x1b[33m";

/// A certificate that is not renewed by now will not be in time; one that lives for days only, when
/// a sixth of its life is left.
constexpr double kDaysWorrying = 7;
constexpr double kLifetimeWorrying = 6;
constexpr std::size_t kPairsListed = 10;
constexpr std::size_t kNameWidth = 22;

std::string painted(const ViewOptions& options, std::string_view colour, std::string_view text) {
  if (!options.colour || text.empty()) return std::string(text);
  return fmt::format("{}{}{}", colour, text, kReset);
}

/// What came from the relay and is to be shown, without what a terminal would act on.
std::string text_of(const Json& value) {
  std::string text = value.is_string() ? value.get<std::string>() : std::string();
  std::ranges::replace_if(
      text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, ' ');
  return text;
}

double number_of(const Json& value) {
  return value.is_number() ? value.get<double>() : 0;
}

std::string rate_text(const Json& value) {
  return value.is_number() ? bytes_text(value.get<double>()) + "/s" : "-";
}

/// The first characters of a text of UTF-8, padded to `width` columns (one for each character).
std::string fit(std::string_view text, std::size_t width) {
  std::string out;
  std::size_t columns = 0;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t size = 1;
    while (i + size < text.size() && (static_cast<unsigned char>(text[i + size]) & 0xc0U) == 0x80U)
      ++size;
    if (columns == width) break;
    out += text.substr(i, size);
    ++columns;
    i += size;
  }
  out.append(width - columns, ' ');
  return out;
}

/// The name that the operator knows it by, or else the short key.
std::string who(const Json& client) {
  const std::string name = text_of(client["name"]);
  return name.empty() ? text_of(client["shortKey"]) : name;
}

std::string pair_end(const Json& pair, std::string_view name, std::string_view key) {
  std::string known = text_of(pair[std::string(name)]);
  if (!known.empty()) return known;
  constexpr std::size_t kTypedPart = 16;  // nodekey: and eight digits.
  return text_of(pair[std::string(key)]).substr(0, kTypedPart);
}

double drops_of(const Json& client) {
  double drops = 0;
  for (const auto& [reason, count] : client["dropped"].items()) drops += number_of(count);
  return drops;
}

std::string flags_of(const Json& client) {
  std::string flags;
  for (const auto& flag : client["flags"]) {
    if (!flags.empty()) flags += ',';
    flags += text_of(flag);
  }
  return flags;
}

constexpr std::string_view kClientsHead =
    "  CLIENT                 ADDRESS                  SINCE      RECEIVED   /s         SENT       "
    "/s         RTT      DROPS  WAITS  FLAGS";

std::string client_line(const Json& client) {
  const auto& tcp = client["tcp"];
  return fmt::format(
      "  {} {} {:<10} {:<10} {:<10} {:<10} {:<10} {:<8} {:<6} {:<6} {}",
      fit(who(client), kNameWidth), fit(text_of(client["address"]), 24),
      time_text(number_of(client["connectedSeconds"])),
      bytes_text(number_of(client["receivedBytes"])), rate_text(client["receivedPerSecond"]),
      bytes_text(number_of(client["sentBytes"])), rate_text(client["sentPerSecond"]),
      tcp.is_object() ? fmt::format("{:.1f}ms", number_of(tcp["rttMs"])) : "-", drops_of(client),
      number_of(client["waiting"]["data"]) + number_of(client["waiting"]["disco"]),
      flags_of(client));
}

std::string state_text(const Json& status, const ViewOptions& options) {
  const std::string state = text_of(status["state"]);
  const std::string unready = text_of(status["unready"]);
  if (state == "serving" && unready.empty()) return painted(options, kGreen, "serving");
  if (state == "draining")
    return painted(
        options, kYellow,
        fmt::format("draining, {} left", time_text(number_of(status["drainLeftSeconds"]))));
  return painted(options, kRed, unready.empty() ? state : "not ready: " + unready);
}

std::string head_lines(const Json& status, const ViewOptions& options) {
  const auto& totals = status["totals"];
  std::string text = fmt::format(
      "{}  {}, up {}\n", painted(options, kBold, "Detour " + text_of(status["version"])),
      state_text(status, options), time_text(number_of(status["uptimeSeconds"])));
  text += fmt::format(
      "Clients {} ({} at home here), connections {}, workers {}, memory {}, CPU {} in all\n",
      number_of(totals["clients"]), number_of(totals["homeClients"]),
      number_of(totals["connections"]), number_of(status["workers"]),
      bytes_text(number_of(totals["memoryBytes"])), time_text(number_of(totals["cpuSeconds"])));
  return text;
}

std::string traffic_line(const Json& totals) {
  const auto all = [](const Json& kinds) {
    double bytes = 0;
    for (const auto& [kind, count] : kinds.items()) bytes += number_of(count["bytes"]);
    return bytes;
  };
  return fmt::format("Received {} ({}), sent {} ({})\n", bytes_text(all(totals["received"])),
                     rate_text(totals["receivedPerSecond"]), bytes_text(all(totals["sent"])),
                     rate_text(totals["sentPerSecond"]));
}

std::string drops_line(const Json& totals, const ViewOptions& options) {
  std::string reasons;
  for (const auto& [reason, count] : totals["dropped"].items()) {
    if (number_of(count) == 0) continue;
    reasons += fmt::format("{}{} {}", reasons.empty() ? "" : ", ", reason, number_of(count));
  }
  return fmt::format("Dropped  {}\n",
                     reasons.empty() ? "nothing" : painted(options, kYellow, reasons + " packets"));
}

/// Whether a certificate that is served has too little time left.
bool is_ending(const Json& certificate) {
  const double lifetime = number_of(certificate.value("lifetimeDays", Json()));
  const double worrying =
      lifetime > 0 ? std::min(kDaysWorrying, lifetime / kLifetimeWorrying) : kDaysWorrying;
  return number_of(certificate["daysLeft"]) < worrying;
}

std::string certificate_line(const Json& certificate, const ViewOptions& options) {
  const std::string error = text_of(certificate["lastError"]);
  const double days = number_of(certificate["daysLeft"]);
  std::string left = !certificate["serving"].get<bool>()
                         ? painted(options, kRed, "none yet")
                         : painted(options, is_ending(certificate) ? kRed : kGreen,
                                   fmt::format("{:.0f} days left", std::floor(days)));
  if (!error.empty()) left += painted(options, kRed, "; last renewal failed: " + error);
  return fmt::format("  {}  {}\n", fit(text_of(certificate["name"]), 30), left);
}

std::string source_line(const Json& source, const ViewOptions& options) {
  const std::string where = text_of(source["where"]);
  const std::string state = !source["asked"].get<bool>() ? std::string("not asked yet")
                            : source["failing"].get<bool>()
                                ? painted(options, kRed, "fails: " + text_of(source["lastError"]))
                                : painted(options, kGreen, "answers");
  return fmt::format("  {} {}  {}\n", text_of(source["kind"]),
                     where.empty() ? "(usual place)" : where, state);
}

std::string admission_lines(const Json& admission, const ViewOptions& options) {
  if (!admission["checking"].get<bool>()) return "Admission  everybody may log in\n";
  std::string text = "Admission\n";
  for (const auto& source : admission["sources"]) text += source_line(source, options);
  if (const auto& file = admission["allowFile"]; file.is_object())
    text +=
        fmt::format("  allow file {}, {} keys{}\n", text_of(file["path"]), number_of(file["keys"]),
                    file["stale"].get<bool>()
                        ? painted(options, kRed, "; cannot be read, the list before holds")
                        : "");
  return text;
}

std::string mesh_line(const Json& mesh, const ViewOptions& options) {
  const std::string state =
      mesh["up"].get<bool>()
          ? painted(options, kGreen, "up") + fmt::format(", {} sent to {}",
                                                         bytes_text(number_of(mesh["sentBytes"])),
                                                         text_of(mesh["address"]))
          : painted(options, kRed, "down: " + text_of(mesh["lastFailure"]));
  return fmt::format("  {}  {}\n", fit(text_of(mesh["name"]), 30), state);
}

std::string pair_lines(const Json& status, std::size_t count_max) {
  const double seconds = std::max(1.0, number_of(status["pairsSeconds"]));
  std::string text;
  std::size_t count = 0;
  for (const auto& pair : status["pairs"]) {
    if (count++ == count_max) break;
    const double a = number_of(pair["bytesFromA"]);
    const double b = number_of(pair["bytesFromB"]);
    text += fmt::format("  {} {} {:>10}/s to, {:>10}/s from\n",
                        fit(pair_end(pair, "nameA", "a"), kNameWidth),
                        fit(pair_end(pair, "nameB", "b"), kNameWidth), bytes_text(a / seconds),
                        bytes_text(b / seconds));
  }
  return text;
}

std::string titled(const ViewOptions& options, std::string_view title, const std::string& lines) {
  return lines.empty() ? std::string() : painted(options, kBold, title) + "\n" + lines;
}

/// Cuts a line to so many columns; escape sequences take none.
std::string cut(std::string_view line, std::size_t columns) {
  std::string out;
  std::size_t used = 0;
  for (std::size_t i = 0; i < line.size();) {
    if (line[i] == '\x1b') {
      const std::size_t end = std::min(line.find('m', i), line.size() - 1);
      out += line.substr(i, end + 1 - i);
      i = end + 1;
      continue;
    }
    const bool begins = (static_cast<unsigned char>(line[i]) & 0xc0U) != 0x80U;
    if (begins && used == columns) break;
    if (begins) ++used;
    out += line[i++];
  }
  return line.find('\x1b') == std::string_view::npos ? out : out + std::string(kReset);
}

}  // namespace

std::string bytes_text(double bytes) {
  constexpr std::array<std::string_view, 6> kUnits = {"B", "kB", "MB", "GB", "TB", "PB"};
  std::size_t unit = 0;
  while (bytes >= 999.5 && unit + 1 < kUnits.size()) {
    bytes /= 1000;
    ++unit;
  }
  return unit == 0 || bytes >= 99.95 ? fmt::format("{:.0f} {}", bytes, kUnits[unit])
                                     : fmt::format("{:.1f} {}", bytes, kUnits[unit]);
}

std::string time_text(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::max(0.0, seconds));
  const std::int64_t days = whole / 86'400;
  const std::int64_t hours = whole / 3'600 % 24;
  const std::int64_t minutes = whole / 60 % 60;
  if (days != 0) return fmt::format("{}d {}h", days, hours);
  if (hours != 0) return fmt::format("{}h {}m", hours, minutes);
  if (minutes != 0) return fmt::format("{}m {}s", minutes, whole % 60);
  return fmt::format("{}s", whole);
}

std::string troubles(const Json& status) {
  std::string text;
  const std::string state = text_of(status["state"]);
  if (state != "serving") text += "the relay is " + state + "\n";
  if (const auto unready = text_of(status["unready"]); !unready.empty()) text += unready + "\n";
  for (const auto& worker : status["silentWorkers"])
    text +=
        fmt::format("worker {} does not answer, its clients are missing here\n", number_of(worker));
  for (const auto& certificate : status["certificates"]) {
    const std::string name = text_of(certificate["name"]);
    const std::string error = text_of(certificate["lastError"]);
    if (!error.empty()) text += fmt::format("certificate for {}: {}\n", name, error);
    if (certificate["serving"].get<bool>() && is_ending(certificate))
      text += fmt::format("certificate for {}: {:.0f} days left\n", name,
                          std::floor(number_of(certificate["daysLeft"])));
  }
  for (const auto& source : status["admission"]["sources"])
    if (source["failing"].get<bool>())
      text += fmt::format("admission by {} {}: {}\n", text_of(source["kind"]),
                          text_of(source["where"]), text_of(source["lastError"]));
  if (const auto& file = status["admission"]["allowFile"];
      file.is_object() && file["stale"].get<bool>())
    text += fmt::format("allow file {}: cannot be read, the list before holds\n",
                        text_of(file["path"]));
  for (const auto& mesh : status["mesh"])
    if (!mesh["up"].get<bool>())
      text +=
          fmt::format("mesh peer {}: {}\n", text_of(mesh["name"]), text_of(mesh["lastFailure"]));
  return text;
}

std::string render_status(const Json& status, const ViewOptions& options) {
  const auto& totals = status["totals"];
  std::string text = head_lines(status, options) + traffic_line(totals) +
                     drops_line(totals, options) +
                     fmt::format("Public key  {}\n", text_of(status["publicKey"]));
  text += admission_lines(status["admission"], options);
  std::string lines;
  for (const auto& certificate : status["certificates"])
    lines += certificate_line(certificate, options);
  text += titled(options, "Certificates", lines);
  lines.clear();
  for (const auto& mesh : status["mesh"]) lines += mesh_line(mesh, options);
  text += titled(options, "Mesh", lines);
  text += titled(options,
                 fmt::format("Pairs that talk most (the last {:.0f} s, about)",
                             number_of(status["pairsSeconds"])),
                 pair_lines(status, kPairsListed));
  lines.clear();
  std::size_t listed = 0;
  for (const auto& client : status["clients"]) {
    if (listed == options.clients_max) break;
    ++listed;
    lines += client_line(client) + "\n";
  }
  text += titled(options, kClientsHead, lines);
  const auto all = static_cast<std::size_t>(number_of(totals["clients"]));
  if (all > listed) text += fmt::format("  and {} more: --clients {}\n", all - listed, all);
  return text;
}

std::string render_top(const Json& status, const ViewOptions& options, std::size_t rows,
                       std::string_view order) {
  std::string text = head_lines(status, options) + traffic_line(status["totals"]) +
                     drops_line(status["totals"], options);
  const std::string wrong = troubles(status);
  if (!wrong.empty()) text += painted(options, kRed, wrong.substr(0, wrong.find('\n'))) + "\n";
  constexpr std::size_t kPairsOnTop = 5;
  text += titled(options, "Pairs", pair_lines(status, kPairsOnTop));
  text += fmt::format(
      "Clients by {}   (sort: s speed, r received, t sent, d drops, w waiting, l "
      "latency, c connected, n name, k key, a address; q quits)\n",
      order);
  text += painted(options, kBold, kClientsHead) + "\n";
  for (const auto& client : status["clients"]) text += client_line(client) + "\n";

  std::string screen;
  std::string_view rest = text;
  for (std::size_t row = 0; row < rows && !rest.empty(); ++row) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    screen += cut(rest.substr(0, end), options.columns) + "\n";
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return screen;
}

}  // namespace detour::cli
