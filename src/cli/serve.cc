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
#include "cli/log_spdlog.h"
#include "cli/relay_key.h"
#include "cli/run_relay.h"
#include "cli/version.h"
#include "config/command_line.h"

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

acme::CertificateRequest certificate_request(const config::Config& config) {
  acme::CertificateRequest request;
  request.hostname = config.hostname;
  request.cert_dir = config.cert_dir;
  request.cert_file = config.cert_file;
  request.key_file = config.cert_key_file;
  request.allow_incomplete_chain = config.allow_incomplete_chain;
  if (config.personality == config::Personality::kDerper) {
    request.cert_dir_setting = "-certdir";
    request.hostname_setting = "-hostname";
    request.allow_incomplete_chain_setting = "-allow-incomplete-chain";
  }
  return request;
}

/// Loads both, and says what is wrong with either of them at once. Nullopt when one is unusable.
std::optional<Identity> load_identity(const config::Config& config, Log& log) {
  Identity identity;
  auto key = load_or_make_key(config.key_file);
  if (key) {
    identity.relay_key = *key;
    if (key->just_made)
      log.info(fmt::format("relay key: made a new one in {}; keep that file", config.key_file));
  } else {
    log_lines(log, LogLevel::kError, key.error());
  }
  if (!config.tls) return key ? std::optional(std::move(identity)) : std::nullopt;

  auto certificate = acme::load_certificate(certificate_request(config));
  if (!certificate) {
    log_lines(log, LogLevel::kError, certificate.error());
    return std::nullopt;
  }
  for (const auto& notice : certificate->notices) log.info(notice);
  for (const auto& warning : certificate->warnings) log.warn(warning);
  if (!key) return std::nullopt;
  identity.certificate = std::move(*certificate);
  return identity;
}

int serve(const config::Start& start) {
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
  return run_relay(start.config, *identity, signals, log);
}

int finish(const config::Exit& exit) {
  std::fputs(exit.out.c_str(), stdout);
  std::fflush(stdout);
  std::fputs(exit.err.c_str(), stderr);
  return exit.status;
}

config::Program program_of(const Call& call) {
  return {.name = call.program, .version = std::string(version())};
}

}  // namespace

int run_serve(const Call& call) {
  const auto environment = config::Environment::of_this_process();
  const auto parsed = config::parse_serve_command_line(call.args, environment, program_of(call));
  return parsed ? serve(*parsed) : finish(parsed.error());
}

int run_derper(const Call& call) {
  const auto environment = config::Environment::of_this_process();
  const auto parsed = config::parse_derper_command_line(call.args, environment, program_of(call));
  return parsed ? serve(*parsed) : finish(parsed.error());
}

}  // namespace detour::cli
