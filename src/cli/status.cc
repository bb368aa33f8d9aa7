#include "cli/status.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "admin/query.h"
#include "admin/status.h"
#include "cli/arguments.h"
#include "cli/control_client.h"
#include "cli/status_view.h"
#include "cli/terminal.h"

namespace detour::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kWell = 0;
constexpr int kTroubled = 1;
constexpr int kCannotAsk = 2;
/// Between two questions whose difference gives the rates.
constexpr std::chrono::milliseconds kRateGap{500};

int cannot_ask(const Call& call, std::string_view subcommand, std::string_view why) {
  fmt::print(stderr, "{} {}: {}\n", call.program, subcommand, why);
  return kCannotAsk;
}

/// What every one of these subcommands is told.
struct Place {
  std::string given;
  std::string socket;

  void add_to(CLI::App& app) {
    app.add_option("--socket", given, "The relay's control socket")->type_name("PATH");
  }
  /// The text says what is wrong.
  std::optional<std::string> find() {
    auto found = find_control_socket(given);
    if (!found) return found.error();
    socket = std::move(*found);
    return std::nullopt;
  }
};

std::expected<Json, std::string> fetch_status(const std::string& socket, std::string_view order,
                                              std::size_t limit) {
  const auto answer =
      ask_relay(socket, "GET", fmt::format("/status?sort={}&limit={}", order, limit));
  if (!answer) return std::unexpected(answer.error());
  if (answer->status != 200)
    return std::unexpected(fmt::format("{}: {}", socket, answer->body.substr(0, 500)));
  auto parsed = Json::parse(answer->body, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded() || !parsed.is_object())
    return std::unexpected(socket +
                           ": the answer is not understood; are program and relay of the "
                           "same version?");
  return parsed;
}

/// The rates of the answer are those since the question before, so there are two.
std::expected<Json, std::string> fetch_with_rates(const std::string& socket, std::string_view order,
                                                  std::size_t limit) {
  if (const auto first = fetch_status(socket, order, 0); !first) return first;
  std::this_thread::sleep_for(kRateGap);
  return fetch_status(socket, order, limit);
}

void print_json(const Json& object) {
  fmt::print("{}\n", object.dump(2, ' ', false, Json::error_handler_t::replace));
}

void add_order(CLI::App& app, std::string& order) {
  app.add_option("--sort", order, fmt::format("How clients are sorted: {}", admin::kClientOrders))
      ->capture_default_str()
      ->check([](const std::string& text) {
        return admin::parse_client_order(text) ? std::string()
                                               : fmt::format("use one of {}", admin::kClientOrders);
      });
}

/// Shows a relay that belongs to another version as "not understood" rather than ending badly.
template <typename Render>
std::optional<std::string> rendered(Render render) {
  try {
    return render();
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

constexpr std::string_view kOtherVersion =
    "the answer is not understood; are program and relay of the same version?";

// --- top

volatile std::sig_atomic_t g_stop = 0;

/// A terminal that gives each key at once, on a screen of its own; as it was before in the end.
class Screen {
 public:
  Screen() {
    ::tcgetattr(STDIN_FILENO, &before_);
    termios raw = before_;
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    raw.c_cc[VMIN] = 0;
    raw.c_cc[VTIME] = 0;
    ::tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    struct sigaction action{};
    action.sa_handler = [](int) { g_stop = 1; };
    for (std::size_t i = 0; i < kSignals.size(); ++i)
      ::sigaction(kSignals[i], &action, &actions_before_[i]);
    write("\x1b[?1049h\x1b[?25l");
  }
  ~Screen() {
    write("\x1b[?25h\x1b[?1049l");
    ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
    for (std::size_t i = 0; i < kSignals.size(); ++i)
      ::sigaction(kSignals[i], &actions_before_[i], nullptr);
  }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  static void show(const std::string& lines) {
    std::string frame = "\x1b[H";
    for (const char c : lines) {
      if (c == '\n') frame += "\x1b[K\r";  // What the frame before had behind it goes.
      frame += c;
    }
    // Behind the last line there must be no line break, or the screen would scroll.
    if (frame.ends_with('\n')) frame.pop_back();
    write(frame + "\x1b[J");
  }

  /// The next key, or nothing when the time is over or a signal came.
  static std::optional<char> key(std::chrono::milliseconds wait) {
    pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    if (::poll(&input, 1, static_cast<int>(wait.count())) <= 0) return std::nullopt;
    char c = 0;
    if (::read(STDIN_FILENO, &c, 1) != 1) return 'q';  // Nobody is there any more.
    return c;
  }

 private:
  static constexpr std::array<int, 3> kSignals = {SIGINT, SIGTERM, SIGHUP};

  static void write(std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }

  termios before_{};
  std::array<struct sigaction, kSignals.size()> actions_before_{};
};

struct Size {
  std::size_t rows = 24;
  std::size_t columns = 160;
};

Size terminal_size() {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0)
    return {};
  return {.rows = size.ws_row, .columns = size.ws_col};
}

constexpr std::array<std::pair<char, std::string_view>, 10> kKeys = {{{'s', "rate"},
                                                                      {'r', "received"},
                                                                      {'t', "sent"},
                                                                      {'d', "drops"},
                                                                      {'w', "waiting"},
                                                                      {'l', "rtt"},
                                                                      {'c', "connected"},
                                                                      {'n', "name"},
                                                                      {'k', "key"},
                                                                      {'a', "address"}}};

struct TopArguments {
  Place place;
  std::string order = "rate";
  double period_seconds = 2;
  bool once = false;
  bool json = false;
};

int top_once(const Call& call, const TopArguments& args) {
  const auto size = terminal_size();
  const auto status = fetch_with_rates(args.place.socket, args.order, size.rows);
  if (!status) return cannot_ask(call, "top", status.error());
  if (args.json) {
    print_json(*status);
    return kWell;
  }
  const bool colour = report_options(/*json=*/false).colour;
  const auto text = rendered([&] {
    return render_top(*status, {.colour = colour, .columns = size.columns, .clients_max = 0},
                      size.rows, args.order);
  });
  if (!text) return cannot_ask(call, "top", kOtherVersion);
  fmt::print("{}", *text);
  return kWell;
}

/// Until q. The text says why it ended otherwise.
std::optional<std::string> top_again_and_again(TopArguments args) {
  const Screen screen;
  const auto period =
      std::chrono::milliseconds(static_cast<std::int64_t>(args.period_seconds * 1000));
  auto next = std::chrono::steady_clock::now();
  while (g_stop == 0) {
    if (std::chrono::steady_clock::now() >= next) {
      const auto size = terminal_size();
      const auto status = fetch_status(args.place.socket, args.order, size.rows);
      if (!status) return status.error();
      const auto text = rendered([&] {
        return render_top(*status, {.colour = true, .columns = size.columns, .clients_max = 0},
                          size.rows, args.order);
      });
      if (!text) return std::string(kOtherVersion);
      Screen::show(*text);
      next = std::chrono::steady_clock::now() + period;
    }
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(next - std::chrono::steady_clock::now());
    const auto key = Screen::key(std::max(left, std::chrono::milliseconds(0)));
    if (key == 'q' || key == 'Q') return std::nullopt;
    const auto* const order =
        std::ranges::find(kKeys, key.value_or('\0'), &std::pair<char, std::string_view>::first);
    if (order == kKeys.end()) continue;
    args.order = order->second;
    next = {};
  }
  return std::nullopt;
}

// --- drain

/// Waits until the relay is gone and says how many clients are left. The text says why it cannot.
std::optional<std::string> watch_drain(const std::string& socket, bool on_terminal) {
  constexpr std::chrono::milliseconds kPeriod{500};
  double last = -1;
  for (;;) {
    const auto status = fetch_status(socket, "rate", 0);
    // The relay is gone, which is what was asked for.
    if (!status) return std::nullopt;
    const double clients = (*status)["totals"].value("clients", 0.0);
    if (on_terminal && clients != last) {
      fmt::print("{} clients left\n", clients);
      std::fflush(stdout);
    }
    last = clients;
    std::this_thread::sleep_for(kPeriod);
  }
}

}  // namespace

int run_status(const Call& call) {
  Place place;
  std::string order = "rate";
  std::size_t clients = 20;
  bool json = false;
  CLI::App app{
      "Says how the relay of this machine is doing: clients, traffic, certificates, admission, "
      "mesh.\n"
      "Exit status: 0 all is well, 1 something is wrong, 2 it cannot be asked.",
      call.program + " status"};
  place.add_to(app);
  add_order(app, order);
  app.add_option("--clients", clients, "How many clients to list")->capture_default_str();
  app.add_flag("--json", json, "Print one JSON object");
  app.footer(
      "Examples:\n"
      "  sudo detour status --sort drops --clients 100\n"
      "  sudo detour status --json | jq .totals");
  if (const auto status = parse_arguments(app, call.args)) return *status;
  if (const auto problem = place.find()) return cannot_ask(call, "status", *problem);

  const auto status = fetch_with_rates(place.socket, order, clients);
  if (!status) return cannot_ask(call, "status", status.error());
  const auto wrong = rendered([&] { return troubles(*status); });
  if (!wrong) return cannot_ask(call, "status", kOtherVersion);
  if (json) {
    print_json(*status);
  } else {
    const bool colour = report_options(/*json=*/false).colour;
    const auto text = rendered(
        [&] { return render_status(*status, {.colour = colour, .clients_max = clients}); });
    if (!text) return cannot_ask(call, "status", kOtherVersion);
    fmt::print("{}", *text);
    if (!wrong->empty()) fmt::print("\nNot as it should be:\n{}", *wrong);
  }
  std::fflush(stdout);
  return wrong->empty() ? kWell : kTroubled;
}

int run_top(const Call& call) {
  TopArguments args;
  CLI::App app{
      "Shows the busiest clients of the relay of this machine, again and again. Keys choose what "
      "they are sorted by; q quits.\n"
      "Exit status: 0 fine, 2 the relay cannot be asked.",
      call.program + " top"};
  args.place.add_to(app);
  add_order(app, args.order);
  app.add_option("--period", args.period_seconds, "Seconds between two looks")
      ->capture_default_str()
      ->check(CLI::Range(0.2, 3600.0));
  app.add_flag("--once", args.once, "Print one look and end; for scripts");
  app.add_flag("--json", args.json, "Print one look as one JSON object and end");
  app.footer(
      "Examples:\n"
      "  sudo detour top --sort drops\n"
      "  sudo detour top --once | head -20");
  if (const auto status = parse_arguments(app, call.args)) return *status;
  if (const auto problem = args.place.find()) return cannot_ask(call, "top", *problem);
  if (args.once || args.json) return top_once(call, args);
  if (::isatty(STDIN_FILENO) != 1 || ::isatty(STDOUT_FILENO) != 1)
    return cannot_ask(call, "top", "needs a terminal; for a script, --once prints one look");
  const auto problem = top_again_and_again(args);
  return problem ? cannot_ask(call, "top", *problem) : kWell;
}

namespace {

/// Says why the relay did not do what it was asked for.
void refused(const Call& call, std::string_view subcommand, std::string_view why, bool json) {
  if (json) {
    while (why.ends_with('\n')) why.remove_suffix(1);
    print_json(Json{{"ok", false}, {"error", why}});
  } else {
    fmt::print(stderr, "{} {}: {}", call.program, subcommand, why);
  }
}

}  // namespace

int run_kick(const Call& call) {
  Place place;
  std::string key;
  bool json = false;
  CLI::App app{
      "Closes all connections of a client. It may come back at once: who is to stay away has to "
      "leave the allow file, or be refused by what admission asks.\n"
      "Exit status: 0 closed, 1 no such client or several, 2 the relay cannot be asked.",
      call.program + " kick"};
  place.add_to(app);
  app.add_option("key", key,
                 "Node key, its first 4 or more hex digits, its short form [AbCdE], or its name in "
                 "the allow file")
      ->required();
  app.add_flag("--json", json, "Print one JSON object");
  app.footer(
      "Examples:\n"
      "  sudo detour kick laptop\n"
      "  sudo detour kick nodekey:1f0c");
  if (const auto status = parse_arguments(app, call.args)) return *status;
  if (const auto problem = place.find()) return cannot_ask(call, "kick", *problem);
  const auto answer = ask_relay(place.socket, "POST", "/kick?key=" + admin::query_escape(key));
  if (!answer) return cannot_ask(call, "kick", answer.error());
  if (answer->status != 200) {
    refused(call, "kick", answer->body, json);
    return answer->status == 403 ? kCannotAsk : kTroubled;
  }
  const auto told = Json::parse(answer->body, nullptr, /*allow_exceptions=*/false);
  if (!told.is_object()) return cannot_ask(call, "kick", kOtherVersion);
  if (json) {
    print_json(Json{{"ok", true},
                    {"key", told.value("key", "")},
                    {"connections", told.value("connections", 0)}});
    return kWell;
  }
  const int connections = told.value("connections", 0);
  fmt::print("{}: {} connection{} closed\n", told.value("key", ""), connections,
             connections == 1 ? "" : "s");
  return kWell;
}

int run_drain(const Call& call) {
  Place place;
  double seconds = 30;
  bool no_wait = false;
  bool json = false;
  CLI::App app{
      "Lets the clients of the relay go one after another, lets nobody in any more, and ends the "
      "relay.\n"
      "Exit status: 0 it has ended, 1 it is ending already, 2 it cannot be asked.",
      call.program + " drain"};
  place.add_to(app);
  app.add_option("--over", seconds, "Seconds over which the clients leave")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 86'400.0));
  app.add_flag("--no-wait", no_wait, "Do not wait until the relay has ended");
  app.add_flag("--json", json, "Print one JSON object");
  app.footer(
      "Examples:\n"
      "  sudo detour drain\n"
      "  sudo detour drain --over 300 --no-wait");
  if (const auto status = parse_arguments(app, call.args)) return *status;
  if (const auto problem = place.find()) return cannot_ask(call, "drain", *problem);
  const auto answer =
      ask_relay(place.socket, "POST",
                fmt::format("/drain?over={}", static_cast<std::int64_t>(seconds * 1000)));
  if (!answer) return cannot_ask(call, "drain", answer.error());
  if (answer->status != 200) {
    refused(call, "drain", answer->body, json);
    return answer->status == 409 ? kTroubled : kCannotAsk;
  }
  if (!no_wait) {
    if (const auto problem = watch_drain(place.socket, !json && ::isatty(STDOUT_FILENO) == 1))
      return cannot_ask(call, "drain", *problem);
    if (!json) fmt::print("the relay has ended\n");
  }
  if (json) print_json(Json{{"ok", true}, {"ended", !no_wait}});
  return kWell;
}

}  // namespace detour::cli
