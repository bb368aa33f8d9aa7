#pragma once

#include <atomic>
#include <expected>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "acme/certificate.h"
#include "acme/challenge.h"
#include "acme/keeper.h"
#include "base/log.h"
#include "config/config.h"
#include "crypto/keys.h"
#include "net/tls_context.h"

namespace detour::server {

/// Which files a relay's certificate is read from, and how messages name the settings that say so.
[[nodiscard]] acme::CertificateRequest certificate_request(const config::Config& config);

/// Whether certificates are ordered (ACME) instead of read from files of somebody else.
[[nodiscard]] bool orders_certificates(const config::Config& config);

/// What certificates are ordered for. `local_ips` are the addresses of this machine; those that the
/// internet can reach are taken where an address is wanted and the configuration names none.
[[nodiscard]] std::vector<acme::Identifier> identifiers_to_order(
    const config::Config& config, std::span<const std::string> local_ips);

/// Whether the internet can reach an address, as far as its range tells.
[[nodiscard]] bool is_public_ip(std::string_view ip);

/// The relay's certificates while it runs: gives them to TLS, has them renewed or read again, and
/// answers the authority's challenges.
class Certificates final : public acme::ChallengeServer {
 public:
  /// Makes the TLS context, which has no certificate yet when `current` is null. The log must
  /// outlive this. Fails, with a text for the operator, when something cannot be used.
  [[nodiscard]] static std::expected<std::unique_ptr<Certificates>, std::string> make(
      const config::Config& config, const crypto::NodePublic& relay_key,
      const acme::ServerCertificate* current, Log& log);
  ~Certificates() override;

  [[nodiscard]] net::TlsContext& tls() { return *tls_; }

  /// Begins to look after them; the listeners have to be bound, for challenges. Before other
  /// threads use this object.
  void start(const acme::ServerCertificate* current);
  /// Asks for the end without waiting for it, which the destructor does.
  void request_stop();
  /// Reads files again, those that `changed` names, or tries again what failed, now. Any thread.
  void check_now(const config::Config& changed);

  /// One for each certificate; any thread.
  [[nodiscard]] std::vector<acme::CertificateStatus> status() const;

  /// Why clients cannot be served: no certificate yet, or an expired one. Any thread.
  [[nodiscard]] std::optional<std::string> unready() const;

  /// What GET /.well-known/acme-challenge/`token` answers; any thread.
  [[nodiscard]] std::optional<std::string> http_token(std::string_view token) const;

  void add_http_token(std::string_view token, std::string_view content) override;
  void remove_http_token(std::string_view token) override;
  [[nodiscard]] std::expected<void, std::string> add_alpn_certificate(std::string_view name,
                                                                      X509* certificate,
                                                                      EVP_PKEY* key) override;
  void remove_alpn_certificate(std::string_view name) override;

 private:
  Certificates(config::Config config, std::string relay_key_hex, Log& log)
      : config_(std::move(config)), relay_key_hex_(std::move(relay_key_hex)), log_(log) {}

  [[nodiscard]] std::expected<void, std::string> serve(
      std::span<const acme::KeptCertificate> certificates);
  [[nodiscard]] std::expected<acme::AcmeOptions, std::string> acme_options() const;
  /// A client reached us at an address that there is no certificate for; any thread.
  void on_unknown_address(std::string_view ip);

  const config::Config config_;
  const std::string relay_key_hex_;
  Log& log_;
  std::optional<acme::AcmeOptions> to_order_;
  std::unique_ptr<net::TlsContext> tls_;

  mutable std::mutex mutex_;
  std::map<std::string, std::string, std::less<>> http_tokens_;

  std::atomic<bool> said_not_public_{false};

  std::unique_ptr<acme::CertificateKeeper> keeper_;  ///< Last, so that it ends first.
};

}  // namespace detour::server
