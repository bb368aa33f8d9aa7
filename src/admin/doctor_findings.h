#pragma once

#include <chrono>
#include <cstddef>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

/// What `detour doctor` found on the relay's machine, as it hands it to the running relay for the
/// status page. Values in, values out.
namespace detour::admin {

struct DoctorFindings {
  /// JSON that is taken at most, in bytes: what the doctor says of a troubled machine is a tenth.
  static constexpr std::size_t kBytesMax = std::size_t{48} * 1024;
  static constexpr std::size_t kSectionsMax = 32;
  static constexpr std::size_t kFindingsMax = 200;  ///< In all sections.
  static constexpr std::size_t kTextMax = 4096;     ///< Bytes of one text.

  struct Finding {
    std::string state;  ///< "PASS", "INFO", "WARN" or "FAIL".
    std::string code;   ///< "D06".
    std::string fault;  ///< "leaf-only"; may be empty, as may `fix`.
    std::string check;  ///< What was looked at: "certificate chain".
    std::string cause;
    std::string fix;

    friend bool operator==(const Finding&, const Finding&) = default;
  };
  struct Section {
    std::string title;
    std::vector<Finding> findings;

    friend bool operator==(const Section&, const Section&) = default;
  };
  std::vector<Section> sections;
  std::size_t left_out = 0;  ///< Findings that were too much for one report.

  /// Reads {"sections":[{"title":"","findings":[{"state":"","code":"","fault":"","check":"",
  /// "cause":"","fix":""}]}],"leftOut":0}, without "leftOut" as well; what else there is, is left
  /// out. Fails with a sentence that says where what is wrong.
  [[nodiscard]] static std::expected<DoctorFindings, std::string> parse(std::string_view text);

  /// What parse() reads. What is too much for it is left out, and counted in "leftOut": of long
  /// texts the end, of too many findings first those that passed, then the last ones.
  [[nodiscard]] std::string format() const;

  [[nodiscard]] std::size_t count() const;

  friend bool operator==(const DoctorFindings&, const DoctorFindings&) = default;
};

/// Findings, and when they came.
struct DoctorVisit {
  DoctorFindings findings;
  std::chrono::system_clock::time_point at;
};

}  // namespace detour::admin
