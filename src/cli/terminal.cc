#include "cli/terminal.h"

#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <string>
#include <string_view>

#include "base/variable.h"

namespace detour::cli {
namespace {

constexpr std::string_view kEraseLine = "\r\x1b[K";
constexpr int kExitInterrupted = 128 + SIGINT;

bool g_shows_progress = false;
volatile std::sig_atomic_t g_patience = 0;
volatile std::sig_atomic_t g_interrupted = 0;

void on_interrupt(int) {
  g_interrupted = 1;
  if (g_patience > 0) {
    g_patience = g_patience - 1;
    return;
  }
  if (isatty(STDERR_FILENO) == 1) {
    // Nothing can be done where it fails.
    [[maybe_unused]] const auto written =
        ::write(STDERR_FILENO, kEraseLine.data(), kEraseLine.size());
  }
  ::_exit(kExitInterrupted);
}

}  // namespace

doctor::ReportOptions report_options(bool json) {
  const bool plain = !variable({"NO_COLOR"}).empty() || variable({"TERM"}) == "dumb";
  return {.json = json,
          .colour = !plain && isatty(STDOUT_FILENO) == 1,
          .out = stdout,
          .progress = isatty(STDERR_FILENO) == 1 ? stderr : nullptr};
}

std::string coloured(std::string_view text, Colour colour) {
  if (!report_options(/*json=*/false).colour) return std::string(text);
  const int code = colour == Colour::kGreen ? 32 : colour == Colour::kYellow ? 33 : 31;
  return fmt::format("\x1b[{}m{}\x1b[0m", code, text);
}

void show_progress(std::string_view doing) {
  if (isatty(STDERR_FILENO) != 1) return;
  std::fflush(stdout);
  fmt::print(stderr, "{}... {}", kEraseLine, doing);
  g_shows_progress = true;
}

void clear_progress() {
  if (!g_shows_progress) return;
  fmt::print(stderr, "{}", kEraseLine);
  g_shows_progress = false;
}

void end_on_interrupt(int patience) {
  g_patience = patience;
  struct sigaction action{};
  action.sa_handler = on_interrupt;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGINT, &action, nullptr);
}

bool interrupted() {
  return g_interrupted != 0;
}

}  // namespace detour::cli
