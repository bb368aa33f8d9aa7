#pragma once

#include <cstdlib>
#include <initializer_list>
#include <string>

namespace detour {

/// The first of these environment variables that is set and not empty, or else nothing. Nobody in
/// this program writes the environment, so any thread may ask.
[[nodiscard]] inline std::string variable(std::initializer_list<const char*> names) {
  for (const char* const name : names) {
    const char* const value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe)
    if (value != nullptr && *value != '\0') return value;
  }
  return {};
}

}  // namespace detour
