#include "cli/bench.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/arguments.h"
#include "cli/signals.h"
#include "client/advice.h"
#include "client/client.h"
#include "client/tls_stream.h"
#include "crypto/keys.h"
#include "derp/frame.h"
#include "doctor/target.h"
#include "load/descriptors.h"
#include "load/login_load.h"
#include "load/plan.h"
#include "load/relay_load.h"
#include "load/stun_load.h"
#include "load/summary.h"

namespace detour::cli {
namespace {

constexpr std::string_view kName = "bench";
constexpr int kExitWarnings = 1;
constexpr int kExitFailed = 2;
/// A packet carries what says whose it is and when it left.
constexpr std::size_t kPacketBytesMin = 24;
constexpr std::chrono::milliseconds kProgressEvery{200};
/// On a line that is as long as any that was there before.
constexpr int kProgressWidth = 78;

struct Arguments {
  std::string target;
  std::string against;
  std::string rate = "50mbit";
  std::optional<std::uint32_t> rounds;
  std::string pin;
  std::string against_pin;
  bool insecure = false;
  std::string authorities_file;
  std::optional<std::uint16_t> stun_port;
  std::optional<std::uint16_t> against_stun_port;
  bool heavy = false;
  bool json = false;
  load::Plan plan;
};

/// A relay that let us in.
struct Server {
  std::string name;
  load::Target target;
  std::optional<client::TlsContext> context;
  std::string server_name;
  std::optional<std::uint16_t> stun_port;
};

void add_options(CLI::App* app, Arguments* args) {
  app->add_option("target", args->target,
                  "The relay: [https://]HOST[:PORT], or http:// without TLS. Any DERP server")
      ->required();
  app->add_option("--against", args->against, "A second relay to compare with, in turn");
  app->add_option("--pairs", args->plan.pairs, "Pairs of clients, each sending one way")
      ->capture_default_str()
      ->check(CLI::Range(1U, load::kHeavyLimits.pairs));
  app->add_option("--rate", args->rate,
                  "Of all pairs together: 800kbit, 50mbit, 2.5gbit; max, as fast as it goes")
      ->capture_default_str();
  app->add_option("--size", args->plan.packet_bytes, "Bytes in a packet")
      ->capture_default_str()
      ->check(CLI::Range(kPacketBytesMin, derp::kPacketSizeMax));
  app->add_option("--window", args->plan.window, "With --rate max: packets in flight of each pair")
      ->capture_default_str()
      ->check(CLI::Range(1, 65536));
  app->add_option("--seconds", args->plan.seconds, "Measured in each round")
      ->capture_default_str()
      ->check(CLI::Range(0.1, load::kHeavyLimits.seconds));
  app->add_option("--rounds", args->rounds, "Of each relay (default 1, with --against 3)")
      ->check(CLI::Range(1U, load::kHeavyLimits.rounds));
  app->add_option("--logins", args->plan.logins, "Also measure so many logins")
      ->check(CLI::Range(1U, load::kHeavyLimits.logins));
  app->add_option("--stun-port", args->stun_port, "Also measure STUN on this UDP port")
      ->check(CLI::Range(1, 65535));
  app->add_option("--against-stun-port", args->against_stun_port,
                  "The second relay's (default: the same)")
      ->check(CLI::Range(1, 65535));
  auto* pin = app->add_option(
      "--pin", args->pin, "Trust exactly this certificate: sha256-raw:HEX, as the relay prints");
  app->add_option("--against-pin", args->against_pin, "The second relay's pin");
  auto* insecure = app->add_flag("--insecure", args->insecure, "Trust any certificate");
  auto* authorities = app->add_option("--authorities,--ca-file", args->authorities_file,
                                      "PEM file of the authorities to trust, not the system's");
  pin->excludes(insecure)->excludes(authorities);
  insecure->excludes(authorities);
  app->add_flag(
      "--heavy", args->heavy,
      fmt::format("Allow more than {} pairs, {}, {:g} s, {} rounds or {} logins",
                  load::kPoliteLimits.pairs, load::rate_text(load::kPoliteLimits.bits_per_second),
                  load::kPoliteLimits.seconds, load::kPoliteLimits.rounds,
                  load::kPoliteLimits.logins));
  app->add_flag("--json", args->json, "Print one JSON object");
  app->footer(
      "What will be sent is said before anything is. Ctrl-C ends the load and shows what there "
      "is.\n"
      "The latency is that from a client here through the relay to another client here.");
}

/// Completes the plan. Fails with what is wrong with the arguments.
std::expected<load::Plan, std::string> make_plan(const Arguments& args) {
  load::Plan plan = args.plan;
  const auto rate = load::parse_rate(args.rate);
  if (!rate) return std::unexpected(rate.error());
  plan.bits_per_second = *rate;
  plan.servers = args.against.empty() ? 1 : 2;
  plan.rounds = args.rounds.value_or(plan.servers == 2 ? 3 : 1);
  plan.stun = args.stun_port.has_value();
  if (plan.servers == 1 && (!args.against_pin.empty() || args.against_stun_port))
    return std::unexpected("--against-pin and --against-stun-port come with --against URL");
  if (args.against_stun_port && !args.stun_port)
    return std::unexpected("--against-stun-port comes with --stun-port");
  if (auto refusal = load::refusal_of(plan, args.heavy)) return std::unexpected(*refusal);
  if (auto lacks = load::make_room_for(std::uint64_t{2} * plan.pairs))
    return std::unexpected(*lacks);
  return plan;
}

std::expected<client::Trust, std::string> parse_trust(const Arguments& args, const std::string& pin,
                                                      std::string_view option) {
  if (args.insecure) return client::Trust{.kind = client::Trust::Kind::kAnyone};
  if (pin.empty())
    return client::Trust{.kind = client::Trust::Kind::kAuthorities,
                         .authorities_file = args.authorities_file};
  const auto digest = client::parse_pin(pin);
  if (!digest)
    return std::unexpected(fmt::format("{} takes sha256-raw: and 64 hex digits", option));
  return client::Trust{.kind = client::Trust::Kind::kPin, .pin = *digest};
}

/// How to log in at one of the relays.
struct Way {
  doctor::Target target;
  client::Trust trust;
  std::optional<std::uint16_t> stun_port;
};

std::expected<std::vector<Way>, std::string> parse_ways(const Arguments& args) {
  std::vector<Way> ways;
  const auto add = [&](const std::string& text, const std::string& pin, std::string_view option,
                       std::optional<std::uint16_t> stun_port) -> std::optional<std::string> {
    auto target = doctor::parse_target(text);
    if (!target) return target.error();
    auto trust = parse_trust(args, pin, option);
    if (!trust) return trust.error();
    ways.push_back(
        {.target = std::move(*target), .trust = std::move(*trust), .stun_port = stun_port});
    return std::nullopt;
  };
  if (auto error = add(args.target, args.pin, "--pin", args.stun_port))
    return std::unexpected(*error);
  if (args.against.empty()) return ways;
  const auto stun_port = args.against_stun_port ? args.against_stun_port : args.stun_port;
  if (auto error = add(args.against, args.against_pin, "--against-pin", stun_port))
    return std::unexpected(*error);
  return ways;
}

/// Logs in once, which shows that the relay can be used, and at which of its addresses.
client::Outcome<Server> reach(const std::string& name, const Way& way, std::FILE* out) {
  client::TlsSettings tls{.trust = way.trust};
  client::DialOptions options{.host = way.target.host,
                              .port = way.target.port,
                              .use_tls = way.target.use_tls,
                              .tls = tls,
                              .key = crypto::NodePrivate::generate()};
  const auto client = client::Client::dial(options);
  if (!client) return std::unexpected(client.error());
  const auto& relay = (*client)->relay();
  fmt::print(
      out, "{}: {} with key {} ({})\n", name, relay.address, relay.key.typed(),
      relay.tls_version.empty() ? "no TLS" : fmt::format("{} {}", relay.tls_version, relay.cipher));
  auto target = load::Target::parse(relay.address);
  if (!target) return std::unexpected(target.error());
  target->set_names(way.target.host, way.target.host_header());
  Server server{.name = name,
                .target = std::move(*target),
                .context = std::nullopt,
                .server_name = way.target.server_name(),
                .stun_port = way.stun_port};
  if (!way.target.use_tls) return server;
  tls.keep_buffers = true;
  auto context = client::TlsContext::create(std::move(tls));
  if (!context) return std::unexpected(context.error());
  server.context = std::move(*context);
  return server;
}

/// Shows on a terminal how far the load is, and ends it when a signal comes.
class Progress {
 public:
  explicit Progress(bool shows) : shows_(shows) {}
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  [[nodiscard]] bool stopped() const { return stopped_; }
  [[nodiscard]] load::Watch watch(std::string what) {
    return [this, what = std::move(what)](const load::Progress& progress) {
      stopped_ = stopped_ || signals_.has_come();
      show(what, progress);
      return !stopped_;
    };
  }
  void clear() {
    if (drawn_) fmt::print(stderr, "\r{:<{}}\r", "", kProgressWidth);
    std::fflush(stderr);
    drawn_ = false;
  }

 private:
  void show(std::string_view what, const load::Progress& progress) {
    const auto now = std::chrono::steady_clock::now();
    if (!shows_ || now < next_) return;
    next_ = now + kProgressEvery;
    drawn_ = true;
    const std::string text = progress.seconds == 0 && progress.done == 0
                                 ? fmt::format("{}: logging in", what)
                                 : fmt::format("{}: {}", what, so_far(progress));
    fmt::print(stderr, "\r{:<{}.{}}", text, kProgressWidth, kProgressWidth);
    std::fflush(stderr);
  }
  [[nodiscard]] static std::string so_far(const load::Progress& progress) {
    std::string text = fmt::format("{:.1f} s", progress.seconds);
    if (progress.seconds_whole > 0) text += fmt::format(" of {:.0f} s", progress.seconds_whole);
    text += fmt::format(", {} done", progress.done);
    if (progress.bytes > 0)
      text += fmt::format(", {}", load::bytes_text(static_cast<double>(progress.bytes)));
    return text + fmt::format(", {} lost", progress.lost);
  }

  const ServeSignals signals_;
  const bool shows_;
  bool stopped_ = false;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point next_;
};

std::chrono::milliseconds milliseconds_of(double seconds) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
}

load::ConnectionSettings settings_of(const Server& server) {
  return {.target = &server.target,
          .context = server.context ? &*server.context : nullptr,
          .server_name = server.server_name};
}

/// What is asked for beside the traffic may fail without making the rest worthless.
load::Report report_or_error(client::Outcome<load::Report> report) {
  if (report) return std::move(*report);
  return {{"error", report.error().text()}};
}

/// One round at one relay.
client::Outcome<load::Report> run_round(const Server& server, const load::Plan& plan,
                                        std::uint32_t number, Progress* progress) {
  const load::ServerProcess nobody(0);
  const std::string title = fmt::format("round {} of {}, {}", number, plan.rounds, server.name);
  load::Report round;
  auto relay = load::run_relay({.connection = settings_of(server),
                                .traffic = load::traffic_of(plan),
                                .warm_up = milliseconds_of(load::kWarmUpSeconds),
                                .duration = milliseconds_of(plan.seconds),
                                .loss_after = std::chrono::seconds(2),
                                .watch = progress->watch(title)},
                               nobody);
  if (!relay) return std::unexpected(relay.error());
  round["relay"] = std::move(*relay);
  if (server.stun_port && !progress->stopped()) {
    const auto target = server.target.with_port(*server.stun_port);
    round["stun"] =
        report_or_error(load::run_stun({.target = &target,
                                        .sockets = 1,
                                        .duration = milliseconds_of(plan.seconds),
                                        .requests_per_second = load::kStunRequestsPerSecond,
                                        .watch = progress->watch(title + ", STUN")},
                                       nobody));
  }
  if (plan.logins > 0 && !progress->stopped())
    round["login"] = report_or_error(load::run_login({.connection = settings_of(server),
                                                      .concurrent = load::kLoginsAtATime,
                                                      .logins_max = plan.logins,
                                                      .watch = progress->watch(title + ", logins")},
                                                     nobody));
  return round;
}

int report_failure(const Arguments& args, const std::string& name, const client::Failure& failure) {
  const std::string advice = client::advice(failure);
  if (args.json) {
    const load::Report json = {{"ok", false},
                               {"server", name},
                               {"layer", client::layer_name(failure.layer)},
                               {"error", failure.message},
                               {"advice", advice}};
    fmt::print("{}\n", json.dump(2));
    return kExitFailed;
  }
  std::fflush(stdout);
  fmt::print(stderr, "detour bench: {}: {}\n", name, failure.text());
  if (!advice.empty()) fmt::print(stderr, "  {}\n", advice);
  return kExitFailed;
}

int report_result(const Arguments& args, const load::Plan& plan,
                  const std::vector<load::ServerResult>& results) {
  const auto warnings = load::warnings_of(results);
  if (args.json) {
    fmt::print("{}\n", load::result_json(plan, results).dump(2));
  } else {
    fmt::print("\n{}", load::table_text(results));
    for (const auto& warning : warnings) fmt::print("warning: {}\n", warning);
  }
  std::fflush(stdout);
  if (load::nothing_arrived(results)) return kExitFailed;
  return warnings.empty() ? 0 : kExitWarnings;
}

/// All rounds: A B, B A, and so on, so that neither always runs behind the other.
int measure(const Arguments& args, const load::Plan& plan, const std::vector<Server>& servers) {
  std::vector<load::ServerResult> results;
  for (const auto& server : servers) results.push_back({.name = server.name});
  {
    Progress progress(isatty(STDERR_FILENO) == 1);
    for (std::uint32_t turn = 0; turn < plan.rounds && !progress.stopped(); ++turn) {
      for (std::size_t i = 0; i < servers.size() && !progress.stopped(); ++i) {
        const std::size_t at = turn % 2 == 0 ? i : servers.size() - 1 - i;
        auto round = run_round(servers[at], plan, turn + 1, &progress);
        if (!round) {
          progress.clear();
          return report_failure(args, servers[at].name, round.error());
        }
        results[at].rounds.push_back(std::move(*round));
      }
    }
  }
  return report_result(args, plan, results);
}

}  // namespace

int run_bench(const Call& call) {
  Arguments args;
  CLI::App app{
      "Measures what a relay carries: throughput, loss and latency of a modest, announced load.",
      call.program + " bench"};
  add_options(&app, &args);
  if (const auto status = parse_arguments(app, call.args)) return *status;
  const auto plan = make_plan(args);
  if (!plan) return usage_error(call, kName, plan.error());
  const auto ways = parse_ways(args);
  if (!ways) return usage_error(call, kName, ways.error());
  if (!crypto::init()) return usage_error(call, kName, "the crypto library cannot be used");
  std::signal(SIGPIPE, SIG_IGN);

  // Standard output is for the result alone when a program reads it.
  std::FILE* out = args.json ? stderr : stdout;
  fmt::print(out, "{}.\n", load::describe(*plan));
  std::fflush(out);
  std::vector<Server> servers;
  const std::string* names[] = {&args.target, &args.against};
  for (std::size_t i = 0; i < ways->size(); ++i) {
    auto server = reach(*names[i], (*ways)[i], out);
    if (!server) return report_failure(args, *names[i], server.error());
    servers.push_back(std::move(*server));
  }
  std::fflush(out);
  return measure(args, *plan, servers);
}

}  // namespace detour::cli
