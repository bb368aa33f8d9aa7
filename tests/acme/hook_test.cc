#include "acme/hook.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <csignal>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "support/says.h"
#include "support/temp_folder.h"

namespace detour::acme {
namespace {

using test::says;
using test::TempFolder;
using namespace std::chrono_literals;

class Lines final : public Log {
 public:
  void write(LogLevel /*level*/, std::string_view message) override {
    const std::lock_guard lock(mutex_);
    lines_.emplace_back(message);
  }
  [[nodiscard]] std::vector<std::string> get() const {
    const std::lock_guard lock(mutex_);
    return lines_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
};

class Hook : public testing::Test {
 protected:
  HookCall script(const std::string& text) {
    const auto path = folder_.write("hook", "#!/bin/sh\n" + text);
    ::chmod(path.c_str(), 0755);
    return {.program = path};
  }
  std::expected<void, std::string> run(const HookCall& call) {
    return run_hook(call, log_, stop_.get_token());
  }

  TempFolder folder_;
  Lines log_;
  std::stop_source stop_;
};

TEST_F(Hook, GetsArgumentsAndEnvironmentAndItsOutputIsLogged) {
  auto call = script("echo \"$1|$2|$NAME|$HOME\"\necho problem >&2\nread x || echo no input\n");
  call.arguments = {"present", "a b"};
  call.environment = {"NAME=value", "HOME=/other"};
  const auto done = run(call);
  EXPECT_TRUE(done.has_value()) << done.error();
  EXPECT_EQ(log_.get(),
            (std::vector<std::string>{call.program + ": present|a b|value|/other",
                                      call.program + ": problem", call.program + ": no input"}));
}

TEST_F(Hook, FailsWithItsStatus) {
  const auto done = run(script("exit 3\n"));
  ASSERT_FALSE(done.has_value());
  EXPECT_TRUE(says(done.error(), "status 3"));
}

TEST_F(Hook, FailsWhenItCannotBeStarted) {
  const auto missing = run({.program = folder_.path("missing")});
  ASSERT_FALSE(missing.has_value());
  EXPECT_TRUE(says(missing.error(), "cannot be started"));
  const auto not_executable = run({.program = folder_.write("plain", "#!/bin/sh\n")});
  ASSERT_FALSE(not_executable.has_value());
  EXPECT_TRUE(says(not_executable.error(), "chmod +x"));
}

TEST_F(Hook, IsEndedWithAllThatItStartedWhenItTakesTooLong) {
  auto call = script("sleep 300 &\necho $! >" + folder_.path("child") +
                     "\ntrap '' TERM\nwait\nwait\nsleep 300\n");
  call.timeout = 300ms;
  const auto done = run(call);
  ASSERT_FALSE(done.has_value());
  EXPECT_TRUE(says(done.error(), "took longer"));
  const auto child = std::stoi(test::read_all(folder_.path("child")));
  // Init takes care of it in a moment, at the latest.
  for (int i = 0; i < 1000 && ::kill(child, 0) == 0; ++i) {
    const std::string state = test::read_all("/proc/" + std::to_string(child) + "/stat");
    if (state.find(") Z ") != std::string::npos) break;
    std::this_thread::sleep_for(10ms);
  }
  const std::string state = test::read_all("/proc/" + std::to_string(child) + "/stat");
  EXPECT_TRUE(state.empty() || state.find(") Z ") != std::string::npos) << state;
}

TEST_F(Hook, IsEndedWhenTheRelayStops) {
  const auto begun = std::chrono::steady_clock::now();
  const std::jthread stopper([&] {
    while (test::read_all(folder_.path("running")).empty()) std::this_thread::sleep_for(1ms);
    stop_.request_stop();
  });
  const auto done = run(script("echo yes >" + folder_.path("running") + "\nsleep 300\n"));
  EXPECT_FALSE(done.has_value());
  EXPECT_LT(std::chrono::steady_clock::now() - begun, 30s);
}

TEST_F(Hook, HasSoManyLinesLoggedAndTheRestCounted) {
  const auto printing = [this](std::size_t lines) {
    return run(script("i=0; while [ $i -lt " + std::to_string(lines) +
                      " ]; do echo line; i=$((i+1)); done\n"));
  };
  ASSERT_TRUE(printing(kHookLinesMax).has_value());
  EXPECT_EQ(log_.get().size(), kHookLinesMax);
  ASSERT_TRUE(printing(kHookLinesMax + 1).has_value());
  EXPECT_EQ(log_.get().size(), 2 * kHookLinesMax + 1);
  EXPECT_TRUE(says(log_.get().back(), "1 more lines"));
}

TEST_F(Hook, HasLongLinesCut) {
  ASSERT_TRUE(run(script("head -c 5000 /dev/zero | tr '\\0' x; echo; echo end\n")).has_value());
  const auto lines = log_.get();
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0].size(), folder_.path("hook").size() + 2 + kHookLineMax);
  EXPECT_TRUE(lines[1].ends_with(": end"));
}

TEST_F(Hook, StartsWithSignalsAsProgramsExpectThem) {
  // The relay ignores SIGPIPE and blocks its own signals.
  const auto before = std::signal(SIGPIPE, SIG_IGN);
  sigset_t blocked;
  sigset_t mask_before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &blocked, &mask_before);
  // The shell itself blocks signals for moments while it waits; what it becomes does not.
  const auto done = run(script("exec grep -E '^Sig(Blk|Ign):' /proc/self/status\n"));
  pthread_sigmask(SIG_SETMASK, &mask_before, nullptr);
  std::signal(SIGPIPE, before);
  ASSERT_TRUE(done.has_value()) << done.error();
  const auto mask = [&](std::string_view name) {
    for (const auto& line : log_.get())
      if (const auto at = line.find(name); at != std::string::npos)
        return std::stoull(line.substr(at + name.size()), nullptr, 16);
    return ~0ULL;
  };
  EXPECT_EQ(mask("SigBlk:") & (1ULL << (SIGTERM - 1U)), 0U);
  EXPECT_EQ(mask("SigIgn:") & (1ULL << (SIGPIPE - 1U)), 0U);
}

}  // namespace
}  // namespace detour::acme
