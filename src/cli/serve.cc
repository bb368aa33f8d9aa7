#include "cli/serve.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "acme/certificate.h"
#include "cli/check.h"
#include "cli/log_spdlog.h"
#include "cli/mesh_key.h"
#include "cli/relay_key.h"
#include "cli/run_relay.h"
#include "cli/version.h"
#include "config/command_line.h"
#include "server/certificates.h"

namespace detour::cli {
namespace {

/// A relay serves as many clients as it may have descriptors, so it takes what it can get.
void raise_descriptor_limit(Log& log) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
    log.warn(fmt::format("the limit of open files stays as it is: {}",
                         std::generic_category().message(errno)));
}

void log_start(Log& log, const config::Start& start) {
  log.info(fmt::format("Detour {} starts", start.config.version));
  for (const auto& line : config::describe(start)) log.info(line);
  for (const auto& line : start.notices) log.info(line);
  for (const auto& line : start.warnings) log.warn(line);
}

/// Loads both, and says what is wrong with either of them at once. Nullopt when one is unusable.
std::optional<Identity> load_identity(const config::Config& config, Log& log) {
  Identity identity;
  auto key = config.dev ? LoadedKey{.key = crypto::NodePrivate::generate(), .just_made = false}
                        : load_or_make_key(config.key_file);
  if (key) {
    identity.relay_key = *key;
    if (key->just_made)
      log.info(fmt::format("relay key: made a new one in {}; keep that file", config.key_file));
  } else {
    log_lines(log, LogLevel::kError, key.error());
  }
  auto mesh_key = fetch_or_load_mesh_key(config, log);
  if (mesh_key) {
    identity.mesh_key = *mesh_key;
  } else {
    log_lines(log, LogLevel::kError, mesh_key.error());
  }
  const bool has_keys = key && mesh_key;
  if (!config.tls || server::orders_certificates(config))
    return has_keys ? std::optional(std::move(identity)) : std::nullopt;

  auto certificate = acme::load_certificate(server::certificate_request(config));
  if (!certificate) {
    log_lines(log, LogLevel::kError, certificate.error());
    return std::nullopt;
  }
  for (const auto& notice : certificate->notices) log.info(notice);
  for (const auto& warning : certificate->warnings) log.warn(warning);
  if (!has_keys) return std::nullopt;
  identity.certificate = std::move(*certificate);
  return identity;
}

int serve(const config::Start& start, Reloader::ReadAgain read_again) {
  const ServeSignals signals;
  std::signal(SIGPIPE, SIG_IGN);
  SpdlogLog log(STDERR_FILENO);
  raise_descriptor_limit(log);
  log_start(log, start);
  if (!crypto::init()) {
    log.error("the crypto library cannot be used on this machine");
    return config::kExitFatal;
  }
  const auto identity = load_identity(start.config, log);
  if (!identity) return config::kExitFatal;
  Reloader reloader(start, std::move(read_again), log);
  return run_relay(start.config, *identity, signals, reloader, log);
}

/// `serve --check`: 0 when it could run, 1 when not.
int check(const config::Start& start) {
  if (!crypto::init()) return config::kExitFatal;
  const CheckReport report = check_files(start.config);
  for (const auto& warning : start.warnings) fmt::print(stderr, "warning: {}\n", warning);
  for (const auto& note : report.notes) fmt::print("{}\n", note);
  for (const auto& problem : report.problems) fmt::print(stderr, "error: {}\n", problem);
  fmt::print("{}\n",
             report.problems.empty() ? "This relay could run." : "This relay could not run.");
  return report.problems.empty() ? 0 : config::kExitFatal;
}

int finish(const config::Exit& exit) {
  std::fputs(exit.out.c_str(), stdout);
  std::fflush(stdout);
  std::fputs(exit.err.c_str(), stderr);
  return exit.status;
}

config::Program program_of(const Call& call, std::string subcommand) {
  return {
      .name = call.program, .version = std::string(version()), .subcommand = std::move(subcommand)};
}

}  // namespace

int run_serve(const Call& call) {
  const auto read = [&call] {
    return config::parse_serve_command_line(call.args, config::Environment::of_this_process(),
                                            program_of(call, "serve"));
  };
  const auto parsed = read();
  if (!parsed) return finish(parsed.error());
  return parsed->check_only ? check(*parsed) : serve(*parsed, read);
}

int run_config(const Call& call) {
  const auto environment = config::Environment::of_this_process();
  const auto parsed =
      config::parse_serve_command_line(call.args, environment, program_of(call, "config"));
  if (!parsed) return finish(parsed.error());
  for (const auto& warning : parsed->warnings) fmt::print(stderr, "warning: {}\n", warning);
  fmt::print("{}", parsed->as_json ? config::settings_as_json(*parsed)
                                   : config::settings_as_toml(*parsed));
  return 0;
}

int run_derper(const Call& call) {
  const auto read = [&call] {
    return config::parse_derper_command_line(call.args, config::Environment::of_this_process(),
                                             program_of(call, ""));
  };
  const auto parsed = read();
  return parsed ? serve(*parsed, read) : finish(parsed.error());
}

}  // namespace detour::cli
