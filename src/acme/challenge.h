#pragma once

#include <expected>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>

#include "acme/signing_request.h"
#include "base/log.h"

namespace detour::acme {

/// What the relay shows to an authority that checks whether we own a name. Safe from any thread.
class ChallengeServer {
 public:
  virtual ~ChallengeServer() = default;

  /// GET /.well-known/acme-challenge/`token` on the plain HTTP port answers `content` from now on.
  virtual void add_http_token(std::string_view token, std::string_view content) = 0;
  virtual void remove_http_token(std::string_view token) = 0;

  /// TLS clients that offer `acme-tls/1` for `name` are shown this certificate from now on. The
  /// pointers are only used during the call. Gives OpenSSL's reason when it refuses.
  [[nodiscard]] virtual std::expected<void, std::string> add_alpn_certificate(std::string_view name,
                                                                              X509* certificate,
                                                                              EVP_PKEY* key) = 0;
  virtual void remove_alpn_certificate(std::string_view name) = 0;

 protected:
  ChallengeServer() = default;
  ChallengeServer(const ChallengeServer&) = default;
  ChallengeServer& operator=(const ChallengeServer&) = default;
};

/// One way to prove that we own a name (RFC 8555 section 8).
class Challenge {
 public:
  virtual ~Challenge() = default;

  /// As the authority calls it: `http-01`, `tls-alpn-01`, `dns-01`.
  [[nodiscard]] virtual std::string_view type() const = 0;
  /// Puts the proof in place; the authority may look for it as soon as this returns. Fails with a
  /// text for the operator, and then nothing is in place.
  [[nodiscard]] virtual std::expected<void, std::string> present(
      const Identifier& identifier, std::string_view token, std::string_view key_authorization) = 0;
  /// Takes it away again.
  virtual void remove(const Identifier& identifier, std::string_view token,
                      std::string_view key_authorization) = 0;

 protected:
  Challenge() = default;
  Challenge(const Challenge&) = default;
  Challenge& operator=(const Challenge&) = default;
};

/// The server must outlive the challenge.
[[nodiscard]] std::unique_ptr<Challenge> make_http_challenge(ChallengeServer& server);
[[nodiscard]] std::unique_ptr<Challenge> make_alpn_challenge(ChallengeServer& server);

/// DNS-01 by a program of the operator (docs/operations.md, DNS-01 by a hook): `program present`
/// and `program cleanup`, each with the host name, the record's name and its value. Its output goes
/// to `log`, which must outlive the challenge.
[[nodiscard]] std::unique_ptr<Challenge> make_dns_challenge(std::string program, Log& log,
                                                            std::stop_token stop);

}  // namespace detour::acme
