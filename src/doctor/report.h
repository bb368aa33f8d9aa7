#pragma once

#include <cstdio>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "doctor/finding.h"

namespace detour::doctor {

/// Where a report goes while it is made.
struct ReportOptions {
  bool json = false;              ///< One JSON object at the end instead of lines.
  bool colour = false;            ///< ANSI colours in the lines.
  std::FILE* out = stdout;        ///< Not owned.
  std::FILE* progress = nullptr;  ///< A terminal that shows what is being done; null for none.
};

/// Collects findings, section by section (one per node or machine), and prints each at once.
class Report {
 public:
  struct Attachment {
    std::string name;
    std::string text;
  };
  struct Section {
    std::string title;
    std::vector<Finding> findings;
    std::vector<Attachment> attachments;
  };

  explicit Report(ReportOptions options) : options_(options) {}

  /// What the following findings are about.
  void begin_section(std::string_view title);
  void add(Finding finding);
  void add(State state, std::string_view code, std::string_view fault, std::string cause,
           std::string fix = {}) {
    add({.state = state,
         .code = code,
         .fault = fault,
         .cause = std::move(cause),
         .fix = std::move(fix)});
  }
  /// Shows on the terminal what takes its time now.
  void doing(std::string_view what);
  /// Checks of this section that had to be left out because one before them failed.
  void leave_out(std::initializer_list<std::string_view> codes);
  /// A text to copy (a corrected map), printed as it is and kept beside the findings.
  void attach(std::string name, std::string text);

  /// Whether this section has a failure of that code; of any code without one.
  [[nodiscard]] bool failed(std::string_view code = {}) const;
  [[nodiscard]] const std::vector<Section>& sections() const { return sections_; }
  /// Prints the verdict, or all of the JSON. Gives the exit status: 0 fine, 1 warnings, 2 failures.
  int finish();

 private:
  void clear_progress();
  void print(const Finding& finding) const;
  [[nodiscard]] Section& section();
  [[nodiscard]] std::size_t count(State state) const;
  void print_json(int status) const;

  ReportOptions options_;
  std::vector<Section> sections_;
  bool shows_progress_ = false;
};

}  // namespace detour::doctor
