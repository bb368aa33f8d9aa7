#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "acme/authority.h"
#include "acme/certificate.h"
#include "acme/challenge.h"
#include "base/clock.h"
#include "base/log.h"

/// Keeps a running relay's certificates fresh, on a thread of its own.
namespace detour::acme {

/// How one certificate is doing, for metrics and health checks.
struct CertificateStatus {
  std::string name;      ///< Host name or address.
  bool serving = false;  ///< There is one; it may have expired.
  WallTime not_before{};
  WallTime not_after{};
  std::uint64_t attempts = 0;  ///< To replace it: orders, or changed files that were read.
  std::uint64_t failures = 0;  ///< Of those.
  std::string last_error;      ///< Of the last attempt; empty when that one was fine.
  WallTime next_attempt{};     ///< Of an order; files are looked at all the time.

  [[nodiscard]] bool expired(WallTime now) const { return serving && now > not_after; }
};

/// One certificate to serve.
struct KeptCertificate {
  const Identifier& identifier;
  const ServerCertificate& certificate;
};

/// Where certificates go. Called on the keeper's thread.
struct CertificateSink {
  /// Serves these and no others from now on. Fails, with a text, when they cannot be used; those
  /// from before stay then.
  std::function<std::expected<void, std::string>(std::span<const KeptCertificate>)> serve;
  /// What handshakes are waiting for, while there is no certificate at all.
  std::function<void(std::string)> waiting_for;
};

class CertificateKeeper {
 public:
  virtual ~CertificateKeeper() = default;
  CertificateKeeper(const CertificateKeeper&) = delete;
  CertificateKeeper& operator=(const CertificateKeeper&) = delete;

  /// Looks at files, or orders what is missing or due, at once. Any thread.
  virtual void check_now() = 0;
  /// The same, with files of these names from now on; nothing else changes where certificates are
  /// ordered. Any thread.
  virtual void check_now(CertificateRequest request) = 0;
  /// A client asked for a certificate for this address: orders one where certificates are ordered,
  /// unless there is one or too many were asked for. Quick; any thread.
  virtual void want_address(std::string_view /*ip*/) {}
  /// Any thread.
  [[nodiscard]] virtual std::vector<CertificateStatus> status() const = 0;
  /// Asks for the end without waiting for it, which the destructor does. Any thread.
  virtual void request_stop() = 0;

 protected:
  CertificateKeeper() = default;
};

// --- Files --------------------------------------------------------------------------------------

/// Files are looked at this often; a change has to last from one look to the next, because the two
/// files of a pair do not change at the same moment. So it is served within twice that.
inline constexpr Duration kFileInterval = std::chrono::seconds(3);
/// A certificate that ends soon is mentioned this often.
inline constexpr Duration kExpiryReminder = std::chrono::hours(24);

/// Picks up certificate files that somebody else renews: checked as at the start, then served. What
/// is wrong with new ones is said once, and the old ones go on being served. `current` is what is
/// served now, read from `request`'s files. The log must outlive the keeper.
[[nodiscard]] std::unique_ptr<CertificateKeeper> keep_files(CertificateRequest request,
                                                            const ServerCertificate& current,
                                                            CertificateSink sink, Log& log,
                                                            Duration interval = kFileInterval);

// --- ACME ---------------------------------------------------------------------------------------

/// Certificates are renewed before the lesser of 30 days and a third of their life is left, as
/// derper does.
[[nodiscard]] WallTime renewal_time(WallTime not_before, WallTime not_after);

/// After so many failures in a row, at least 1: two minutes, doubling up to an hour, so that the
/// five failures per hour that Let's Encrypt allows are not used up; and up to a fifth more by
/// `jitter` (0 to 1). Never sooner than the authority asked.
[[nodiscard]] std::chrono::seconds retry_delay(std::uint64_t failures, double jitter,
                                               std::optional<std::chrono::seconds> asked);

struct AcmeOptions {
  std::vector<Identifier> identifiers;  ///< At least one, and at most kIdentifiersMax.
  std::string directory_url;
  std::string ca_file;  ///< For a private authority's HTTPS; empty: the system's roots.
  std::string email;
  std::string eab_id;
  Bytes eab_key;
  std::string dns_hook;  ///< Not empty: DNS-01 by this program, for names.
  bool by_http = true;   ///< The plain HTTP port is open.
  /// Try TLS-ALPN-01 before HTTP-01, for names.
  bool alpn_first = true;
  std::string folder;  ///< Where certificates and account are kept.
  std::string user_agent;
  /// Whether an address is still one of this machine's. One that was wanted later and is not any
  /// more is forgotten instead of renewed. Called on the keeper's thread.
  std::function<bool(const std::string& ip)> is_local_ip;
};
inline constexpr std::size_t kIdentifiersMax = 8;
/// Addresses that clients may make us order certificates for, beside those.
inline constexpr std::size_t kWantedAddressesMax = 8;

/// Gets a certificate for each identifier, renews them, and serves the last good ones meanwhile:
/// those of an earlier run at once. The server and the log must outlive the keeper.
[[nodiscard]] std::unique_ptr<CertificateKeeper> keep_by_acme(AcmeOptions options,
                                                              ChallengeServer& server,
                                                              CertificateSink sink, Log& log);

}  // namespace detour::acme
