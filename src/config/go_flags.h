#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace detour::config {

enum class GoFlagType : std::uint8_t { kBool, kInt, kFloat, kDuration, kString };

struct GoFlag {
  std::string_view name;
  GoFlagType type = GoFlagType::kString;
};

/// The flags of one command line. Values are texts that parse as their flag's type.
struct GoFlagValues {
  std::map<std::string, std::string, std::less<>> set;  ///< The last one wins.
  std::vector<std::string> rest;  ///< From the first argument on that is not a flag.
};

struct GoFlagError {
  bool help = false;    ///< -h or -help: no error at all.
  std::string message;  ///< As Go words it, since scripts look for that.
  std::string hint;     ///< What to write instead; empty when there is nothing to add.
};

/// Reads arguments as Go's `flag` package does: one or two dashes, `-name=value` or `-name value`,
/// booleans with `=` only, `--` and the first other argument end the flags. Ends at the first
/// error.
[[nodiscard]] std::expected<GoFlagValues, GoFlagError> parse_go_flags(
    std::span<const std::string> args, std::span<const GoFlag> flags);

}  // namespace detour::config
