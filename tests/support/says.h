#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace detour::test {

/// Whether a message has a part in it; a failure prints both.
inline testing::AssertionResult says(std::string_view text, std::string_view part) {
  if (text.find(part) != std::string_view::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "\"" << part << "\" is not said in:\n" << text;
}

/// Whether one line of several has a part in it.
inline testing::AssertionResult says(const std::vector<std::string>& lines, std::string_view part) {
  std::string all;
  for (const auto& line : lines) all += line + "\n";
  return says(all, part);
}

}  // namespace detour::test
