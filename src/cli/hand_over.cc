#include "cli/hand_over.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "admin/doctor_findings.h"
#include "cli/control_client.h"

namespace detour::cli {
namespace {

using admin::DoctorFindings;

DoctorFindings::Finding told_finding(const doctor::Finding& finding) {
  return {.state = fmt::to_string(doctor::state_name(finding.state)),
          .code = fmt::to_string(finding.code),
          .fault = fmt::to_string(finding.fault),
          .check = fmt::to_string(doctor::title_of(finding.code)),
          .cause = finding.cause,
          .fix = finding.fix};
}

DoctorFindings::Section told_section(const doctor::Report::Section& section) {
  DoctorFindings::Section told{.title = section.title, .findings = {}};
  std::ranges::transform(section.findings, std::back_inserter(told.findings), told_finding);
  return told;
}

}  // namespace

void hand_over(const doctor::Report& report, const std::string& socket) {
  if (socket.empty()) return;
  DoctorFindings findings;
  std::ranges::transform(report.sections(), std::back_inserter(findings.sections), told_section);
  (void)ask_relay(socket, "POST", "/findings", findings.format());
}

}  // namespace detour::cli
