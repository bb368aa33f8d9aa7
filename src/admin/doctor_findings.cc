#include "admin/doctor_findings.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <functional>
#include <numeric>
#include <optional>
#include <utility>

namespace detour::admin {
namespace {

using nlohmann::json;
/// What is wrong; nothing when all is well.
using Problem = std::optional<std::string>;

constexpr std::array<std::string_view, 4> kStates = {"PASS", "INFO", "WARN", "FAIL"};

/// Takes the text `name` of `object` into `text`.
Problem take_text(const json& object, std::string_view name, const std::string& where,
                  std::string& text) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_string())
    return fmt::format("{}.{}: a text is needed", where, name);
  text = found->get<std::string>();
  if (text.size() > DoctorFindings::kTextMax)
    return fmt::format("{}.{}: {} bytes, and at most {} are taken", where, name, text.size(),
                       DoctorFindings::kTextMax);
  return std::nullopt;
}

/// Finds the list `name` of `object`, of at most `count_max`.
Problem find_list(const json& object, std::string_view name, const std::string& where,
                  std::size_t count_max, const json** list) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_array())
    return fmt::format("{}{}: a list is needed", where, name);
  if (found->size() > count_max)
    return fmt::format("{}{}: {} of them, and at most {} are taken", where, name, found->size(),
                       count_max);
  *list = &*found;
  return std::nullopt;
}

/// "D" and two digits.
bool is_code(std::string_view text) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  return text.size() == 3 && text[0] == 'D' && is_digit(text[1]) && is_digit(text[2]);
}

Problem take_finding(const json& object, const std::string& where,
                     DoctorFindings::Finding& finding) {
  if (!object.is_object()) return where + ": an object is needed";
  const std::array<std::pair<std::string_view, std::string*>, 6> texts = {{
      {"state", &finding.state},
      {"code", &finding.code},
      {"fault", &finding.fault},
      {"check", &finding.check},
      {"cause", &finding.cause},
      {"fix", &finding.fix},
  }};
  for (const auto& [name, text] : texts)
    if (auto problem = take_text(object, name, where, *text)) return problem;
  if (std::ranges::find(kStates, finding.state) == kStates.end())
    return where + ".state: PASS, INFO, WARN or FAIL is needed";
  if (!is_code(finding.code)) return where + ".code: D and two digits are needed";
  return std::nullopt;
}

Problem take_section(const json& object, const std::string& where, std::size_t findings_max,
                     DoctorFindings::Section& section) {
  if (!object.is_object()) return where + ": an object is needed";
  if (auto problem = take_text(object, "title", where, section.title)) return problem;
  const json* findings = nullptr;
  if (auto problem = find_list(object, "findings", where + ".", findings_max, &findings))
    return problem;
  for (const json& one : *findings) {
    const std::size_t index = section.findings.size();
    if (auto problem = take_finding(one, fmt::format("{}.findings[{}]", where, index),
                                    section.findings.emplace_back()))
      return problem;
  }
  return std::nullopt;
}

/// UTF-8 up to the bound on a text; a character that would be cut is left out.
std::string_view cut(std::string_view text) {
  if (text.size() <= DoctorFindings::kTextMax) return text;
  std::size_t size = DoctorFindings::kTextMax;
  const auto goes_on = [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) == 0x80U; };
  while (size > 0 && goes_on(text[size])) --size;
  return text.substr(0, size);
}

/// With at most `findings_max` findings.
std::string format_some(const DoctorFindings& all, bool with_passed, std::size_t findings_max) {
  using nlohmann::ordered_json;
  std::size_t taken = 0;
  ordered_json sections = ordered_json::array();
  for (const auto& section : all.sections) {
    if (sections.size() == DoctorFindings::kSectionsMax) break;
    ordered_json findings = ordered_json::array();
    for (const auto& finding : section.findings) {
      if (taken == findings_max) break;
      if (!with_passed && finding.state == "PASS") continue;
      ++taken;
      findings.push_back({{"state", finding.state},
                          {"code", finding.code},
                          {"fault", cut(finding.fault)},
                          {"check", cut(finding.check)},
                          {"cause", cut(finding.cause)},
                          {"fix", cut(finding.fix)}});
    }
    sections.push_back({{"title", cut(section.title)}, {"findings", std::move(findings)}});
  }
  const ordered_json whole = {{"sections", std::move(sections)},
                              {"leftOut", all.left_out + all.count() - taken}};
  // Text from the network need not be UTF-8. Bytes that are none go, so that no text grows.
  return whole.dump(-1, ' ', false, ordered_json::error_handler_t::ignore);
}

}  // namespace

std::expected<DoctorFindings, std::string> DoctorFindings::parse(std::string_view text) {
  const auto failed = [](std::string_view what) {
    return std::unexpected(fmt::format("findings: {}", what));
  };
  if (text.size() > kBytesMax)
    return failed(fmt::format("{} bytes, and at most {} are taken", text.size(), kBytesMax));
  const json whole = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!whole.is_object()) return failed("a JSON object is needed, such as {\"sections\":[]}");
  const json* sections = nullptr;
  if (const auto problem = find_list(whole, "sections", "", kSectionsMax, &sections))
    return failed(*problem);

  DoctorFindings findings;
  for (const json& one : *sections) {
    const auto where = fmt::format("sections[{}]", findings.sections.size());
    const std::size_t room = kFindingsMax - findings.count();
    if (const auto problem = take_section(one, where, room, findings.sections.emplace_back()))
      return failed(*problem);
  }
  if (const auto left_out = whole.find("leftOut"); left_out != whole.end()) {
    if (!left_out->is_number_unsigned()) return failed("leftOut: a number is needed");
    findings.left_out = left_out->get<std::size_t>();
  }
  return findings;
}

std::string DoctorFindings::format() const {
  for (const bool with_passed : {true, false}) {
    const bool fits = with_passed ? count() <= kFindingsMax : true;
    std::string text = format_some(*this, with_passed, kFindingsMax);
    if (fits && text.size() <= kBytesMax) return text;
  }
  std::size_t findings_max = kFindingsMax;
  std::string text;
  do {
    findings_max /= 2;
    text = format_some(*this, /*with_passed=*/false, findings_max);
  } while (text.size() > kBytesMax && findings_max > 0);
  return text;
}

std::size_t DoctorFindings::count() const {
  return std::transform_reduce(sections.begin(), sections.end(), std::size_t{0}, std::plus(),
                               [](const Section& section) { return section.findings.size(); });
}

}  // namespace detour::admin
