#include "acme/hook.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): kill() is POSIX.
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/clock.h"
#include "net/fd.h"

extern char** environ;

namespace detour::acme {
namespace {

/// How often the end of the program, a stop request and the time limit are looked for.
constexpr std::chrono::milliseconds kLook{50};
/// Between asking the program to end and ending it.
constexpr std::chrono::milliseconds kGrace{500};

std::string error_text(int error) {
  return std::generic_category().message(error);
}

/// Turns what the program prints into lines of the log.
class OutputLog {
 public:
  OutputLog(std::string program, Log& log) : program_(std::move(program)), log_(log) {}

  void take(std::string_view text) {
    for (const char c : text) {
      if (c == '\n') {
        end_line();
      } else if (line_.size() < kHookLineMax && c != '\r') {
        line_ += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
      }
    }
  }

  void finish() {
    end_line();
    if (lines_ > kHookLinesMax)
      log_.info(fmt::format("{}: {} more lines were not logged", program_, lines_ - kHookLinesMax));
  }

 private:
  void end_line() {
    if (line_.empty()) return;
    if (++lines_ <= kHookLinesMax) log_.info(fmt::format("{}: {}", program_, line_));
    line_.clear();
  }

  const std::string program_;
  Log& log_;
  std::string line_;
  std::size_t lines_ = 0;
};

/// Whether `added` has a variable of the same name.
bool is_replaced(std::string_view variable, const std::vector<std::string>& added) {
  const std::string_view name = variable.substr(0, variable.find('=') + 1);
  return std::ranges::any_of(added, [&](const auto& other) { return other.starts_with(name); });
}

/// What posix_spawn is told: its own process group, default signals, and where output goes.
class SpawnPlan {
 public:
  explicit SpawnPlan(int output) {
    posix_spawnattr_init(&attributes_);
    posix_spawn_file_actions_init(&actions_);
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    // The relay blocks its signals in every thread and ignores SIGPIPE; the program is to have
    // neither from us.
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setsigdefault(&attributes_, &all);
    posix_spawnattr_setpgroup(&attributes_, 0);
    posix_spawnattr_setflags(
        &attributes_,
        static_cast<short>(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF));
    posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions_, output, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions_, output, STDERR_FILENO);
  }
  ~SpawnPlan() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;

  /// 0 or an errno.
  [[nodiscard]] int spawn(const HookCall& call, pid_t& child) const {
    std::vector<char*> arguments = {const_cast<char*>(call.program.c_str())};
    for (const auto& argument : call.arguments)
      arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    std::vector<char*> variables;
    for (const auto& variable : call.environment)
      variables.push_back(const_cast<char*>(variable.c_str()));
    for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry)
      if (!is_replaced(*entry, call.environment)) variables.push_back(*entry);
    variables.push_back(nullptr);
    return posix_spawn(&child, call.program.c_str(), &actions_, &attributes_, arguments.data(),
                       variables.data());
  }

 private:
  posix_spawnattr_t attributes_{};
  posix_spawn_file_actions_t actions_{};
};

/// A started program, which has a process group of its own.
class Child {
 public:
  explicit Child(pid_t pid) : pid_(pid) {}

  /// Whether it has ended; `status` is then what waitpid() gave.
  bool has_ended() {
    if (ended_) return true;
    const pid_t waited = ::waitpid(pid_, &status_, WNOHANG);
    // Who started us may have had the kernel throw the ends of children away.
    ended_ = waited == pid_ || (waited < 0 && errno == ECHILD);
    return ended_;
  }

  /// Ends it, with all that it started.
  void end() {
    ::kill(-pid_, SIGTERM);
    for (auto waited = kLook; waited <= kGrace && !has_ended(); waited += kLook)
      ::poll(nullptr, 0, static_cast<int>(kLook.count()));
    ::kill(-pid_, SIGKILL);
    if (!ended_) ::waitpid(pid_, &status_, 0);
    ended_ = true;
  }

  [[nodiscard]] int status() const { return status_; }

 private:
  const pid_t pid_;
  bool ended_ = false;
  int status_ = 0;
};

void drain(int fd, OutputLog& output) {
  std::array<char, 4096> buffer{};
  // Bounded, so that a program that prints without end is still held to its time.
  for (int i = 0; i < 64; ++i) {
    const ssize_t got = ::read(fd, buffer.data(), buffer.size());
    if (got <= 0) return;
    output.take({buffer.data(), static_cast<std::size_t>(got)});
  }
}

}  // namespace

std::expected<void, std::string> run_hook(const HookCall& call, Log& log,
                                          const std::stop_token& stop) {
  if (stop.stop_requested()) return std::unexpected("the relay is stopping");
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0)
    return std::unexpected(fmt::format("{}: no pipe for it: {}", call.program, error_text(errno)));
  const net::UniqueFd reading(ends[0]);
  net::UniqueFd writing(ends[1]);

  // Programs expect writes that block.
  ::fcntl(writing.get(), F_SETFL, 0);
  pid_t pid = 0;
  if (const int error = SpawnPlan(writing.get()).spawn(call, pid); error != 0)
    return std::unexpected(fmt::format(
        "{0}: cannot be started: {1}; it has to be the path of a program that this user may run "
        "(`chmod +x {0}`; a script begins with a line like #!/bin/sh)",
        call.program, error_text(error)));
  writing.reset();

  Child child(pid);
  OutputLog output(call.program, log);
  const TimePoint deadline = Clock::now() + call.timeout;
  bool too_late = false;
  while (!child.has_ended()) {
    too_late = Clock::now() >= deadline;
    if (too_late || stop.stop_requested()) {
      child.end();
      break;
    }
    pollfd readable{.fd = reading.get(), .events = POLLIN, .revents = 0};
    ::poll(&readable, 1, static_cast<int>(kLook.count()));
    if ((readable.revents & POLLIN) != 0) {
      drain(reading.get(), output);
    } else if ((readable.revents & POLLHUP) != 0) {
      ::poll(nullptr, 0, static_cast<int>(kLook.count()));
    }
  }
  drain(reading.get(), output);
  output.finish();

  if (stop.stop_requested()) return std::unexpected("the relay is stopping");
  if (too_late)
    return std::unexpected(fmt::format(
        "{} took longer than {} s and was ended; it has to return as soon as the "
        "record can be seen",
        call.program, std::chrono::duration_cast<std::chrono::seconds>(call.timeout).count()));
  if (WIFSIGNALED(child.status()))
    return std::unexpected(
        fmt::format("{} was ended by signal {}", call.program, WTERMSIG(child.status())));
  if (WEXITSTATUS(child.status()) != 0)
    return std::unexpected(
        fmt::format("{} {} ended with status {}, 0 is needed; its output is in "
                    "the lines above",
                    call.program, call.arguments.empty() ? "" : call.arguments.front(),
                    WEXITSTATUS(child.status())));
  return {};
}

}  // namespace detour::acme
