#include "cli/dispatch.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cli/version.h"
#include "support/says.h"

namespace detour::cli {
namespace {

using test::says;

struct Ran {
  int status;
  std::string out;
  std::string err;
};

Ran run(const std::vector<std::string>& args) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  const int status = dispatch(args);
  return {.status = status,
          .out = testing::internal::GetCapturedStdout(),
          .err = testing::internal::GetCapturedStderr()};
}

TEST(Dispatch, RunsSubcommandsAndExplainsWhatItDoesNotKnow) {
  struct Case {
    std::vector<std::string> args;
    int status;
    std::string out;  ///< Each a part of it; empty: nothing is printed there.
    std::string err;
  };
  const Case kCases[] = {
      {{"detour", "version"}, 0, "detour 0.", ""},
      {{"detour", "--version"}, 0, "detour 0.", ""},
      {{"/usr/bin/detour", "help"}, 0, "Usage: /usr/bin/detour SUBCOMMAND", ""},
      {{"detour", "--help"}, 0, "serve ", ""},
      {{"detour"}, 2, "", "Usage: detour SUBCOMMAND"},
      {{"detour", "srve"}, 2, "", "no subcommand \"srve\": did you mean serve?"},
      {{"detour", "-hostname"}, 2, "", "no subcommand \"-hostname\"\n"},
      {{"detour", "serve", "--help"}, 0, "Usage: detour serve", ""},
      {{"detour", "serve", "--nope"}, 2, "", "unknown option --nope"},
      {{"detour", "serve", "--listen", "x"}, 1, "", "listen address \"x\""},
  };
  for (const auto& [args, status, out, err] : kCases) {
    SCOPED_TRACE(testing::PrintToString(args));
    const Ran ran = run(args);
    EXPECT_EQ(ran.status, status);
    EXPECT_TRUE(says(ran.out, out));
    EXPECT_TRUE(says(ran.err, err));
    EXPECT_EQ(ran.out.empty(), out.empty());
    EXPECT_EQ(ran.err.empty(), err.empty());
  }
}

TEST(Dispatch, TakesDerpersFlagsUnderDerpersName) {
  for (const auto name : {"derper", "./derper", "/usr/local/bin/derper"}) {
    SCOPED_TRACE(name);
    EXPECT_EQ(run({name, "-version"}).out, std::string(version()) + "\n");
    EXPECT_EQ(run({name, "-nope"}).status, 2);
    EXPECT_TRUE(says(run({name, "-h"}).err, std::string("Usage of ") + name + ":\n"));
  }
  EXPECT_EQ(run({"derper2", "-version"}).status, 2);
}

}  // namespace
}  // namespace detour::cli
