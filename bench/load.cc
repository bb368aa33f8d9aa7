/// detour-load: puts a DERP relay on this host under load and says what that costs it.

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>

#include "client/tls_stream.h"
#include "crypto/keys.h"
#include "load/descriptors.h"
#include "load/idle_load.h"
#include "load/login_load.h"
#include "load/relay_load.h"
#include "load/storm_load.h"
#include "load/stun_load.h"

namespace {

using namespace detour;

constexpr int kExitFailed = 1;
/// Nothing here runs for longer.
constexpr unsigned kSecondsMax = 600;

/// Options of all modes, as typed.
struct Arguments {
  std::string target;
  int server_pid = 0;
  bool json = false;
  bool tls12 = false;
  std::string pin;
  std::string server_name;
  bool plain = false;
  bool no_fast_start = false;
  double seconds = 5;
  double warm_up = 1;

  std::uint32_t senders = 10;
  std::uint32_t receivers = 0;
  std::uint32_t payload = 1400;
  std::uint32_t window = 24;
  std::string mode = "packet";
  bool coalesce = false;
  double rate_mbit = 0;
  std::uint32_t threads = 1;
  std::uint32_t bystanders = 0;
  bool spin = false;
  bool no_spin = false;

  double packets_per_second = 200;
  std::string background = "none";
  std::uint32_t background_pairs = 10;
  std::uint32_t background_window = 24;

  std::uint32_t clients = 2000;
  std::uint32_t concurrent = 8;
  std::uint32_t keys = load::kNodesThatComeBack;
  double settle = 5;
  std::uint32_t in_flight = 64;
};

std::chrono::milliseconds milliseconds_of(double seconds) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
}

double packets_per_second(double mbit, std::uint32_t payload_bytes) {
  return mbit * 1e6 / 8 / payload_bytes;
}

load::RelayOptions relay_options(const Arguments& args,
                                 const load::ConnectionSettings& connection) {
  const auto packing = args.mode == "bulk" ? load::Packing::kBulk
                       : args.coalesce     ? load::Packing::kCoalesce
                                           : load::Packing::kPacket;
  return {
      .connection = connection,
      .traffic = {.senders = args.senders,
                  .receivers = args.receivers == 0 ? args.senders : args.receivers,
                  .payload_bytes = args.payload,
                  .window = args.window,
                  .packing = packing,
                  .packets_per_second = packets_per_second(args.rate_mbit, args.payload)},
      .threads = args.threads,
      .warm_up = milliseconds_of(args.warm_up),
      .duration = milliseconds_of(args.seconds),
      // Evenly paced packets need a finer clock than sleeping gives.
      .spin = args.spin || (args.rate_mbit > 0 && !args.no_spin),
      .bystanders = args.bystanders,
      .watch = {},
  };
}

load::RelayOptions latency_options(const Arguments& args,
                                   const load::ConnectionSettings& connection) {
  load::RelayOptions options{
      .connection = connection,
      .traffic = {.senders = 1,
                  .receivers = 1,
                  .payload_bytes = args.payload,
                  .packets_per_second = args.packets_per_second},
      .warm_up = milliseconds_of(args.warm_up),
      .duration = milliseconds_of(args.seconds),
      .spin = !args.no_spin,
      .watch = {},
  };
  if (args.background == "none") return options;
  const bool saturated = args.background == "saturated";
  const double mbit = saturated ? 0 : std::stod(args.background);
  options.background = {.senders = args.background_pairs,
                        .receivers = args.background_pairs,
                        .window = args.background_window,
                        .packets_per_second = packets_per_second(mbit, 1400)};
  options.spin = options.spin && !saturated;
  return options;
}

/// How many are open at a time.
std::uint64_t connections_of(const Arguments& args, const std::string& command) {
  if (command == "idle") return args.clients;
  if (command == "login") return args.concurrent;
  if (command == "storm") return std::uint64_t{2} * args.senders;
  if (command == "latency") return 2 + std::uint64_t{2} * args.background_pairs;
  return std::uint64_t{args.senders} + std::max(args.senders, args.receivers) + args.bystanders;
}

client::Outcome<client::TlsContext> make_tls(const Arguments& args, bool keep_buffers) {
  client::TlsSettings settings{
      .trust = {.kind = client::Trust::Kind::kAnyone},
      .versions = args.tls12 ? client::TlsVersions::kOnly12 : client::TlsVersions::kOnly13,
      .only_aes128_gcm = true,
      .keep_buffers = keep_buffers,
  };
  if (!args.pin.empty()) {
    const auto pin = client::parse_pin(args.pin);
    if (!pin) return client::give_up(client::Layer::kTls, "a pin is sha256-raw: and 64 hex digits");
    settings.trust = {.kind = client::Trust::Kind::kPin, .pin = *pin, .authorities_file = {}};
  }
  return client::TlsContext::create(std::move(settings));
}

client::Outcome<load::Report> run(const Arguments& args, const std::string& command) {
  const auto target = load::Target::parse_loopback(args.target);
  if (!target) return std::unexpected(target.error());
  const bool keeps_buffers = command == "relay" || command == "latency";
  const auto tls = make_tls(args, keeps_buffers);
  if (!tls) return std::unexpected(tls.error());
  const load::ServerProcess server(args.server_pid);
  const load::ConnectionSettings connection{.target = &*target,
                                            .context = args.plain ? nullptr : &*tls,
                                            .server_name = args.server_name,
                                            .fast_start = !args.no_fast_start};

  if (command == "relay") return load::run_relay(relay_options(args, connection), server);
  if (command == "latency") return load::run_relay(latency_options(args, connection), server);
  if (command == "idle")
    return load::run_idle({.connection = connection,
                           .clients = args.clients,
                           .concurrent = args.concurrent,
                           .settle = milliseconds_of(args.settle)},
                          server);
  if (command == "login")
    return load::run_login({.connection = connection,
                            .keys = args.keys,
                            .concurrent = args.concurrent,
                            .warm_up = milliseconds_of(args.warm_up),
                            .duration = milliseconds_of(args.seconds),
                            .watch = {}},
                           server);
  if (command == "storm")
    return load::run_storm({.connection = connection, .pairs = args.senders}, [] {
      fmt::print(stderr, "ready\n");
      std::fflush(stderr);
    });
  return load::run_stun({.target = &*target,
                         .in_flight = args.in_flight,
                         .warm_up = milliseconds_of(args.warm_up),
                         .duration = milliseconds_of(args.seconds),
                         .watch = {}},
                        server);
}

void add_common_options(CLI::App* app, Arguments* args) {
  app->add_option("--target", args->target, "Loopback address and port of the relay")->required();
  app->add_option("--server-pid", args->server_pid, "Process to charge CPU and memory to");
  app->add_flag("--json", args->json, "Print JSON");
}

void add_tls_options(CLI::App* app, Arguments* args) {
  app->add_flag("--tls12", args->tls12, "TLS 1.2 instead of 1.3");
  app->add_option("--pin", args->pin, "sha256-raw:... of the certificate (default: no check)");
  app->add_option("--sni", args->server_name, "Server name to send (default: none)");
  app->add_flag("--plain", args->plain, "No TLS: the relay listens without it");
  app->add_flag("--no-fast-start", args->no_fast_start, "Wait for the answer to the upgrade");
}

void add_time_options(CLI::App* app, Arguments* args) {
  app->add_option("--seconds", args->seconds, "Measured time")
      ->check(CLI::Range(0.1, double{kSecondsMax}));
  app->add_option("--warm-up", args->warm_up, "Seconds of load before it")
      ->check(CLI::Range(0.0, double{kSecondsMax}));
}

void add_relay_options(CLI::App* app, Arguments* args) {
  app->add_option("--pairs,--senders", args->senders, "Clients that send")
      ->check(CLI::Range(1, 5000));
  app->add_option("--receivers", args->receivers, "Clients that receive (default: one per sender)")
      ->check(CLI::Range(1, 5000));
  app->add_option("--payload", args->payload, "Bytes in a packet")->check(CLI::Range(24, 65536));
  app->add_option("--window", args->window, "Packets in flight per flow")
      ->check(CLI::Range(1, 65536));
  app->add_option("--mode", args->mode,
                  "packet: a TLS record and a write for each packet; bulk: full records")
      ->check(CLI::IsMember({"packet", "bulk"}));
  app->add_flag("--coalesce", args->coalesce, "One write for all packets that the window allows");
  app->add_option("--rate", args->rate_mbit, "Mbit/s of payload in all (default: no limit)")
      ->check(CLI::NonNegativeNumber);
  app->add_option("--bystanders", args->bystanders, "Clients more that are only logged in")
      ->check(CLI::Range(0, 100000));
  app->add_option("--threads", args->threads, "Threads that the flows are dealt out to")
      ->check(CLI::Range(1, 64));
  app->add_flag("--spin", args->spin, "Poll instead of sleeping (default with --rate)");
  app->add_flag("--no-spin", args->no_spin, "Sleep instead of polling");
}

void add_latency_options(CLI::App* app, Arguments* args) {
  app->add_option("--pps", args->packets_per_second, "Packets per second of the measured pair")
      ->check(CLI::Range(1.0, 1e6));
  app->add_option("--payload", args->payload, "Bytes in a packet")->check(CLI::Range(24, 65536));
  const auto is_background = [](const std::string& text) -> std::string {
    if (text == "none" || text == "saturated") return {};
    return CLI::Range(0.1, 1e6)(text);
  };
  app->add_option("--background", args->background, "none, saturated, or Mbit/s of other pairs")
      ->check(is_background);
  app->add_option("--background-pairs", args->background_pairs, "How many other pairs")
      ->check(CLI::Range(1, 1000));
  app->add_option("--background-window", args->background_window, "Their packets in flight")
      ->check(CLI::Range(1, 65536));
  app->add_flag("--no-spin", args->no_spin, "Sleep instead of polling");
}

}  // namespace

int main(int argc, char** argv) {
  Arguments args;
  CLI::App app{"Puts a DERP relay on this host under load and says what that costs it."};
  app.require_subcommand(1);
  auto* relay = app.add_subcommand("relay", "Packets between pairs of clients");
  auto* latency = app.add_subcommand("latency", "One-way latency of a quiet pair");
  auto* idle = app.add_subcommand("idle", "Memory of clients that only stay logged in");
  auto* login = app.add_subcommand("login", "Full TLS handshake, login and close");
  auto* stun = app.add_subcommand("stun", "STUN binding requests");
  auto* storm = app.add_subcommand(
      "storm",
      "All come back at once: says `ready` on standard error, then kill the relay and start "
      "it again");
  for (auto* command : {relay, latency, idle, login, stun, storm})
    add_common_options(command, &args);
  for (auto* command : {relay, latency, idle, login, storm}) add_tls_options(command, &args);
  storm->add_option("--pairs", args.senders, "Pairs of clients")->check(CLI::Range(1, 50000));
  for (auto* command : {relay, latency, login, stun}) add_time_options(command, &args);
  add_relay_options(relay, &args);
  add_latency_options(latency, &args);
  idle->add_option("--clients", args.clients, "How many")->check(CLI::Range(1, 100000));
  idle->add_option("--settle", args.settle, "Seconds between the last login and the measurement")
      ->check(CLI::Range(0.0, double{kSecondsMax}));
  for (auto* command : {idle, login})
    command->add_option("--concurrent", args.concurrent, "Logins at a time")
        ->check(CLI::Range(1, 1000));
  login->add_option("--keys", args.keys, "Nodes that log in again and again, in turn")
      ->check(CLI::Range(1, 100000));
  stun->add_option("--in-flight", args.in_flight, "Requests without an answer yet")
      ->check(CLI::Range(1, 10000));
  CLI11_PARSE(app, argc, argv);

  if (!crypto::init()) {
    fmt::print(stderr, "detour-load: the crypto library cannot be used\n");
    return kExitFailed;
  }
  const std::string command = app.get_subcommands().front()->get_name();
  if (const auto lacks = load::make_room_for(connections_of(args, command))) {
    fmt::print(stderr, "detour-load: {}\n", *lacks);
    return kExitFailed;
  }
  const auto report = run(args, command);
  if (!report) {
    fmt::print(stderr, "detour-load: {}\n", report.error().text());
    return kExitFailed;
  }
  load::print(*report, args.json);
  return 0;
}
