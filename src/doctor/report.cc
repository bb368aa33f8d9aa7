#include "doctor/report.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace detour::doctor {
namespace {

constexpr std::string_view kIndent = "          ";  // As wide as "PASS D06  ".

std::string_view colour_of(State state) {
  switch (state) {
    case State::kPass:
      return "\x1b[32m";
    case State::kInfo:
      return "\x1b[36m";
    case State::kWarn:
      return "\x1b[33m";
    case State::kFail:
      return "\x1b[31m";
  }
  return "";
}

/// What came over the network cannot move the cursor or forge a line.
std::string printable(std::string_view text) {
  std::string clean;
  clean.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    clean += (byte < 0x20 && c != '\n') || byte == 0x7f ? '?' : c;
  }
  return clean;
}

std::string indented(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    out += fmt::format("{}{}\n", kIndent, text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return out;
}

}  // namespace

void Report::begin_section(std::string_view title) {
  sections_.push_back({.title = printable(title), .findings = {}, .attachments = {}});
  if (options_.json) return;
  clear_progress();
  fmt::print(options_.out, "{}{}\n", sections_.size() > 1 ? "\n" : "", sections_.back().title);
  std::fflush(options_.out);
}

Report::Section& Report::section() {
  if (sections_.empty()) sections_.emplace_back();
  return sections_.back();
}

void Report::add(Finding finding) {
  finding.cause = printable(finding.cause);
  finding.fix = printable(finding.fix);
  section().findings.push_back(std::move(finding));
  if (options_.json) return;
  clear_progress();
  print(sections_.back().findings.back());
}

void Report::print(const Finding& finding) const {
  const auto name = state_name(finding.state);
  if (options_.colour) {
    fmt::print(options_.out, "{}{}\x1b[0m", colour_of(finding.state), name);
  } else {
    fmt::print(options_.out, "{}", name);
  }
  fmt::print(options_.out, " {}  {}: {}\n", finding.code, title_of(finding.code), finding.cause);
  fmt::print(options_.out, "{}", indented(finding.fix));
  std::fflush(options_.out);
}

void Report::doing(std::string_view what) {
  if (options_.progress == nullptr) return;
  clear_progress();
  fmt::print(options_.progress, "... {}", what);
  std::fflush(options_.progress);
  shows_progress_ = true;
}

void Report::clear_progress() {
  if (!shows_progress_) return;
  fmt::print(options_.progress, "\r\x1b[K");
  std::fflush(options_.progress);
  shows_progress_ = false;
}

void Report::leave_out(std::initializer_list<std::string_view> codes) {
  std::string list;
  for (const auto code : codes)
    list += fmt::format("{}{} ({})", list.empty() ? "" : ", ", code, title_of(code));
  add(State::kInfo, "D00", "left-out",
      fmt::format("not checked, because of the failure above: {}", list));
}

void Report::attach(std::string name, std::string text) {
  section().attachments.push_back({.name = std::move(name), .text = std::move(text)});
  if (options_.json) return;
  clear_progress();
  const Attachment& attached = sections_.back().attachments.back();
  fmt::print(options_.out, "\n{}:\n\n{}{}", attached.name, attached.text,
             attached.text.ends_with('\n') ? "" : "\n");
}

bool Report::failed(std::string_view code) const {
  if (sections_.empty()) return false;
  return std::ranges::any_of(sections_.back().findings, [code](const Finding& finding) {
    return finding.state == State::kFail && (code.empty() || finding.code == code);
  });
}

std::size_t Report::count(State state) const {
  std::size_t total = 0;
  for (const auto& section : sections_)
    total += static_cast<std::size_t>(std::ranges::count(section.findings, state, &Finding::state));
  return total;
}

int Report::finish() {
  clear_progress();
  const std::size_t failures = count(State::kFail);
  const std::size_t warnings = count(State::kWarn);
  const int status = failures > 0 ? 2 : warnings > 0 ? 1 : 0;
  if (options_.json) {
    print_json(status);
    return status;
  }
  const std::size_t checks = failures + warnings + count(State::kPass);
  fmt::print(options_.out, "\n{} checks: {} failed, {} with a warning\n", checks, failures,
             warnings);
  std::fflush(options_.out);
  return status;
}

void Report::print_json(int status) const {
  using Json = nlohmann::ordered_json;
  Json sections = Json::array();
  for (const auto& section : sections_) {
    Json findings = Json::array();
    for (const auto& finding : section.findings) {
      findings.push_back({{"state", state_name(finding.state)},
                          {"code", finding.code},
                          {"fault", finding.fault},
                          {"check", title_of(finding.code)},
                          {"cause", finding.cause},
                          {"fix", finding.fix}});
    }
    Json entry = {{"title", section.title}, {"findings", std::move(findings)}};
    for (const auto& attachment : section.attachments)
      entry["attachments"].push_back({{"name", attachment.name}, {"text", attachment.text}});
    sections.push_back(std::move(entry));
  }
  const Json all = {{"ok", status == 0},
                    {"status", status},
                    {"failed", count(State::kFail)},
                    {"warnings", count(State::kWarn)},
                    {"sections", std::move(sections)}};
  // Text from the network need not be UTF-8.
  fmt::print(options_.out, "{}\n", all.dump(2, ' ', false, Json::error_handler_t::replace));
  std::fflush(options_.out);
}

}  // namespace detour::doctor
