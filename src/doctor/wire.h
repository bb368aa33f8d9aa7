#pragma once

#include <openssl/ssl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "acme/certificate.h"
#include "base/clock.h"
#include "client/tls_stream.h"
#include "crypto/keys.h"
#include "doctor/http_answer.h"
#include "net/address.h"
#include "net/fd.h"

namespace detour::doctor {

/// How one TLS handshake went, whoever is on the other side.
struct TlsAnswer {
  enum class End : std::uint8_t {
    kDone,
    kNotTls,  ///< Something else than TLS answered.
    kAlert,   ///< The other side refused with an alert.
    kReset,   ///< RST after our first message.
    kClosed,  ///< FIN after our first message.
    kSilent,  ///< Nothing came in time.
    kNotConnected,
    kFailed,  ///< For the reason in `reason`.
  };
  End end = End::kFailed;
  int alert = 0;       ///< RFC 8446 section 6, for kAlert.
  std::string reason;  ///< OpenSSL's words.
  Duration time{};
  std::string version;  ///< "TLSv1.3".
  std::string cipher;
  /// What was sent, the meta certificate left out, in its order: the leaf is first.
  std::vector<acme::CertificatePtr> certificates;
  std::optional<crypto::NodePublic> meta_key;  ///< The relay's key out of the meta certificate.

  [[nodiscard]] bool has_meta() const { return meta_key.has_value(); }
};

struct TlsAsk {
  std::string server_name;  ///< SNI; empty sends none.
  client::TlsVersions versions = client::TlsVersions::kAny;
  Duration timeout = std::chrono::seconds(5);
};

/// One connection for checks: TCP, perhaps TLS that trusts anybody, HTTP requests and raw bytes.
/// Blocking, each call with its deadline.
class Wire {
 public:
  struct Connected {
    int error = 0;  ///< errno; ETIMEDOUT when the time ran out.
    Duration time{};
  };
  /// Connects anew.
  [[nodiscard]] Connected connect(const net::SocketAddress& address, Duration timeout);
  /// Does TLS on a connection that was just made.
  [[nodiscard]] TlsAnswer handshake(const TlsAsk& ask);

  /// Sends a request and reads the answer: head, and up to kAnswerBodyMax of the body, unless it is
  /// a 101, whose bytes behind the head wait for read_exactly(). Nullopt when no whole head came in
  /// time; a status of 0 when it is no HTTP.
  [[nodiscard]] std::optional<HttpAnswer> ask(std::string_view request, Duration timeout);
  /// The next `size` bytes; nullopt when they did not come in time.
  [[nodiscard]] std::optional<std::string> read_exactly(std::size_t size, Duration timeout);

 private:
  struct FreeSsl {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  };
  [[nodiscard]] bool write(std::string_view bytes, TimePoint deadline);
  /// Reads what is there into `received_`. False at the end, or when the time ran out.
  [[nodiscard]] bool read_more(TimePoint deadline);
  /// Waits for what OpenSSL wants after `result`. False when it is over.
  [[nodiscard]] bool wait_for_ssl(int result, TimePoint deadline) const;

  net::UniqueFd fd_;
  std::unique_ptr<SSL_CTX, FreeSsl> context_;
  std::unique_ptr<SSL, FreeSsl> ssl_;
  std::string received_;
};

}  // namespace detour::doctor
