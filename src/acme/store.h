#pragma once

#include <expected>
#include <optional>
#include <string>

#include "acme/account_key.h"
#include "acme/authority.h"
#include "acme/certificate.h"
#include "acme/signing_request.h"

namespace detour::acme {

/// What an earlier run left behind for a name.
struct StoredCertificate {
  ServerCertificate certificate;
  /// It came from another directory than the one asked now: good to serve, and to be replaced.
  bool from_elsewhere = false;
};

/// The folder in which certificates and the account's key survive restarts, laid out as derper's:
/// `acme_account+key`; `<host>` with key and chain for a DNS name; `<address>.crt` and `.key` for
/// an address, colons as dots. Files are replaced whole, mode 0600.
class CertificateStore {
 public:
  CertificateStore(std::string folder, std::string directory_url);

  /// The account's key, made when there is none. A damaged one is an error, not a new account.
  [[nodiscard]] std::expected<AccountKey, std::string> account_key() const;

  /// Nullopt when there is none. Fails, with a text for the operator, when it is of no use.
  [[nodiscard]] std::expected<std::optional<StoredCertificate>, std::string> load(
      const Identifier& identifier, WallTime now) const;

  /// Checks what the authority gave as any certificate is checked and keeps it. Nothing that is
  /// there is lost when that fails; a self-signed pair for an address is kept aside (`.pinned`).
  [[nodiscard]] std::expected<ServerCertificate, std::string> save(const Identifier& identifier,
                                                                   const IssuedCertificate& issued,
                                                                   WallTime now) const;

  [[nodiscard]] CertificateFiles files(const Identifier& identifier) const;

 private:
  [[nodiscard]] CertificateRequest request(const Identifier& identifier, WallTime now) const;

  const std::string folder_;
  const std::string directory_url_;
};

}  // namespace detour::acme
