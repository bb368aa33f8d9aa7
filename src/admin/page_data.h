#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "admin/doctor_findings.h"
#include "admin/history.h"
#include "admin/status.h"

/// What the status page shows, as the JSON that it asks for (docs/operations.md, Status page). Its
/// size is bounded, however many clients there are. Values in, values out.
namespace detour::admin {

inline constexpr std::size_t kPageClientsMax = 50;
inline constexpr std::size_t kPagePairsMax = 20;

/// Which part of the history a page has already.
struct PageProgress {
  std::string run;         ///< Of which relay: PageData::run.
  std::uint64_t next = 0;  ///< The first sample that it has not.
};

/// From `run=` and `next=` of a query; both may be missing. The text says what is wrong with it.
[[nodiscard]] std::optional<PageProgress> parse_page_progress(std::string_view query,
                                                              std::string& problem);

struct PageData {
  const RelayStatus& status;
  ListeningState monitoring;  ///< Where the page is served, which `status` does not know.
  const History& history;
  Sample now;       ///< Taken for this answer.
  std::string run;  ///< Another one after each start of the relay.
  const std::optional<DoctorVisit>& doctor;
};

/// One JSON object, newline at the end: what format_status_json() gives, with the busiest clients
/// and pairs alone, and the page's own: rates, history, the doctor's findings.
[[nodiscard]] std::string format_page_json(const PageData& data, const PageProgress& progress);

}  // namespace detour::admin
