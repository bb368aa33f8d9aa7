#include "acme/challenge.h"

#include <fmt/format.h>

#include <chrono>
#include <utility>
#include <vector>

#include "acme/encoding.h"
#include "acme/hook.h"

namespace detour::acme {
namespace {

class HttpChallenge final : public Challenge {
 public:
  explicit HttpChallenge(ChallengeServer& server) : server_(server) {}

  [[nodiscard]] std::string_view type() const override { return "http-01"; }

  std::expected<void, std::string> present(const Identifier& /*identifier*/, std::string_view token,
                                           std::string_view key_authorization) override {
    server_.add_http_token(token, key_authorization);
    return {};
  }

  void remove(const Identifier& /*identifier*/, std::string_view token,
              std::string_view /*key_authorization*/) override {
    server_.remove_http_token(token);
  }

 private:
  ChallengeServer& server_;
};

class AlpnChallenge final : public Challenge {
 public:
  explicit AlpnChallenge(ChallengeServer& server) : server_(server) {}

  [[nodiscard]] std::string_view type() const override { return "tls-alpn-01"; }

  std::expected<void, std::string> present(const Identifier& identifier, std::string_view /*token*/,
                                           std::string_view key_authorization) override {
    const auto key = new_certificate_key();
    const auto certificate = make_alpn_certificate(identifier, key_authorization, key.get(),
                                                   std::chrono::system_clock::now());
    return server_.add_alpn_certificate(alpn_name(identifier), certificate.get(), key.get());
  }

  void remove(const Identifier& identifier, std::string_view /*token*/,
              std::string_view /*key_authorization*/) override {
    server_.remove_alpn_certificate(alpn_name(identifier));
  }

 private:
  ChallengeServer& server_;
};

class DnsChallenge final : public Challenge {
 public:
  DnsChallenge(std::string program, Log& log, std::stop_token stop)
      : program_(std::move(program)), log_(log), stop_(std::move(stop)) {}

  [[nodiscard]] std::string_view type() const override { return "dns-01"; }

  std::expected<void, std::string> present(const Identifier& identifier, std::string_view /*token*/,
                                           std::string_view key_authorization) override {
    return run("present", identifier, key_authorization);
  }

  void remove(const Identifier& identifier, std::string_view /*token*/,
              std::string_view key_authorization) override {
    // The record does no harm when it stays; the certificate does not depend on it.
    const auto done = run("cleanup", identifier, key_authorization);
    if (!done && !stop_.stop_requested()) log_.warn(done.error());
  }

 private:
  std::expected<void, std::string> run(const char* action, const Identifier& identifier,
                                       std::string_view key_authorization) {
    const std::string record = fmt::format("_acme-challenge.{}.", identifier.value);
    const std::string value = base64url(sha256(key_authorization));
    return run_hook(
        {.program = program_,
         .arguments = {action, identifier.value, record, value},
         .environment = {fmt::format("DETOUR_ACME_ACTION={}", action),
                         "DETOUR_ACME_DOMAIN=" + identifier.value,
                         "DETOUR_ACME_RECORD_NAME=" + record, "DETOUR_ACME_RECORD_VALUE=" + value}},
        log_, stop_);
  }

  const std::string program_;
  Log& log_;
  const std::stop_token stop_;
};

}  // namespace

std::unique_ptr<Challenge> make_http_challenge(ChallengeServer& server) {
  return std::make_unique<HttpChallenge>(server);
}

std::unique_ptr<Challenge> make_alpn_challenge(ChallengeServer& server) {
  return std::make_unique<AlpnChallenge>(server);
}

std::unique_ptr<Challenge> make_dns_challenge(std::string program, Log& log, std::stop_token stop) {
  return std::make_unique<DnsChallenge>(std::move(program), log, std::move(stop));
}

}  // namespace detour::acme
