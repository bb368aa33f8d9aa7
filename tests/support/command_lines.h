#pragma once

#include <gtest/gtest.h>

#include <string>

#include "config/command_line.h"

/// What all tests of command lines need.
namespace detour::test {

/// Of somebody with this home folder and four CPUs.
inline config::Environment environment_at(const std::string& home) {
  config::Environment environment;
  environment.variables = {{"HOME", home}};
  environment.cpus = 4;
  return environment;
}

/// A command line that has to be understood; the test fails with what was said when it was not.
inline config::Start started(const config::CommandLine& parsed) {
  EXPECT_TRUE(parsed.has_value()) << (parsed ? "" : parsed.error().err);
  return parsed.value_or(config::Start{});
}

}  // namespace detour::test
