// What `detour doctor` hands to a running relay: what is taken keeps its bounds, can be shown, and
// is read again as the same. Input: the body of POST /findings.

#include <span>
#include <string>

#include "admin/doctor_findings.h"
#include "base/bytes.h"
#include "base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace detour;
  using admin::DoctorFindings;
  const auto findings = DoctorFindings::parse(as_text(std::span(data, size)));
  if (!findings) {
    DETOUR_CHECK(findings.error().starts_with("findings: "));
    return 0;
  }
  DETOUR_CHECK(findings->sections.size() <= DoctorFindings::kSectionsMax);
  DETOUR_CHECK(findings->count() <= DoctorFindings::kFindingsMax);
  const std::string text = findings->format();
  DETOUR_CHECK(text.size() <= DoctorFindings::kBytesMax);
  const auto again = DoctorFindings::parse(text);
  DETOUR_CHECK(again.has_value());
  // What was taken once is not cut, but for what JSON's escapes make too long.
  if (size <= DoctorFindings::kBytesMax / 6) DETOUR_CHECK(*again == *findings);
  return 0;
}
