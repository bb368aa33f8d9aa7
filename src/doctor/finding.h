#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

/// Checks that find out why a relay does not work, and say what mends it. May block; runs in the
/// command line tools only.
namespace detour::doctor {

enum class State : std::uint8_t {
  kPass,
  kInfo,  ///< Worth knowing; changes nothing about the verdict.
  kWarn,  ///< Works, and will hurt somebody sooner or later.
  kFail,
};

/// "PASS", "INFO", "WARN", "FAIL".
[[nodiscard]] std::string_view state_name(State state);

/// What one check found.
struct Finding {
  State state = State::kPass;
  std::string_view code;   ///< One of codes(): "D06". Stable.
  std::string_view fault;  ///< Which fault of that code: "leaf-only". Stable; empty when none is.
  std::string cause;       ///< One sentence, without a full stop.
  std::string fix = {};    ///< What to do, to copy; may have several lines. Empty when nothing is.
};

/// One row of the list of codes, which docs/troubleshooting.md follows.
struct Code {
  std::string_view code;
  std::string_view title;
};

/// All codes, in order.
[[nodiscard]] std::span<const Code> codes();
/// The title of a code in codes().
[[nodiscard]] std::string_view title_of(std::string_view code);

}  // namespace detour::doctor
