#include "cli/reloader.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "support/command_lines.h"
#include "support/says.h"

namespace detour::cli {
namespace {

using test::environment_at;
using test::says;

class Lines final : public Log {
 public:
  void write(LogLevel level, std::string_view message) override {
    lines.push_back((level == LogLevel::kInfo   ? "info: "
                     : level == LogLevel::kWarn ? "warn: "
                                                : "error: ") +
                    std::string(message));
  }
  std::vector<std::string> lines;
};

/// A relay's configuration in a file that changes.
class ReloaderTest : public testing::Test {
 protected:
  ReloaderTest() {
    environment_.read_file = [this](const std::string&) -> std::expected<std::string, std::string> {
      return file_;
    };
    environment_.variables["DETOUR_CONFIG"] = "relay.toml";
  }

  config::CommandLine read() {
    return config::parse_serve_command_line({}, environment_,
                                            {.name = "detour", .version = "0.1.0"});
  }

  Reloader start() {
    return {test::started(read()), [this] { return read(); }, log_};
  }

  void reload(Reloader& reloader) {
    log_.lines.clear();
    reloader.reload([this](const config::Config& changed) { applied_.push_back(changed); });
  }

  std::string file_ = "hostname = \"a.example\"\nallow-file = \"/a\"\nworkers = 2\n";
  config::Environment environment_ = environment_at("/h");
  Lines log_;
  std::vector<config::Config> applied_;
};

TEST_F(ReloaderTest, AppliesWhatCanChangeAndKeepsTheRest) {
  Reloader reloader = start();
  file_ = "hostname = \"a.example\"\nallow-file = \"/b\"\nworkers = 3\n";
  reload(reloader);
  ASSERT_EQ(applied_.size(), 1U);
  EXPECT_EQ(applied_[0].allow_file, "/b");
  EXPECT_EQ(applied_[0].workers, 2U);
  EXPECT_EQ(log_.lines.size(), 2U);
  EXPECT_TRUE(says(log_.lines, "info: reload: allow-file was \"/a\" and is \"/b\""));
  EXPECT_TRUE(says(log_.lines,
                   "warn: reload: workers was \"2\" and is \"3\" now: that needs a "
                   "restart"));

  reload(reloader);
  ASSERT_EQ(applied_.size(), 2U);
  EXPECT_EQ(log_.lines.size(), 1U) << "what was applied is no difference any more";
  EXPECT_TRUE(says(log_.lines, "workers"));
}

TEST_F(ReloaderTest, AppliesAgainWhenNothingDiffersSinceFilesMay) {
  Reloader reloader = start();
  reload(reloader);
  EXPECT_EQ(applied_.size(), 1U);
  EXPECT_TRUE(says(log_.lines, "no setting differs"));
}

TEST_F(ReloaderTest, ChangesNothingWhenTheConfigurationIsNotGood) {
  Reloader reloader = start();
  file_ += "allow-fil = \"/b\"\n";
  reload(reloader);
  EXPECT_TRUE(applied_.empty());
  EXPECT_TRUE(says(log_.lines, "error: detour serve: relay.toml line 4: unknown key allow-fil"));
  EXPECT_TRUE(says(log_.lines, "error: reload: nothing was changed"));

  file_ = "hostname = \"a.example\"\nallow-file = \"/c\"\nworkers = 2\n";
  reload(reloader);
  ASSERT_EQ(applied_.size(), 1U);
  EXPECT_EQ(applied_[0].allow_file, "/c");
}

}  // namespace
}  // namespace detour::cli
