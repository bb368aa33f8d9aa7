#pragma once

#include <span>
#include <string>
#include <string_view>

namespace detour::cli {

/// How a subcommand was called.
struct Call {
  std::string program;                ///< As typed: "detour", "./build/release/detour".
  std::span<const std::string> args;  ///< Those after the subcommand's name.
};

/// One subcommand. `run` gives the exit status: 0 fine, 1 cannot be done, 2 not understood.
struct Subcommand {
  std::string_view name;
  std::string_view summary;  ///< One line of `detour help`.
  int (*run)(const Call& call);
};

}  // namespace detour::cli
