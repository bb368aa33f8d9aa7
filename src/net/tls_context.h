#pragma once

#include <openssl/ssl.h>

#include <atomic>
#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "net/record_key.h"

namespace detour::net {

struct SslCtxDeleter {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
struct BioMethodDeleter {
  void operator()(BIO_METHOD* method) const { BIO_meth_free(method); }
};

/// A certificate as the listener shows it. The pointers are only read during the call; OpenSSL
/// keeps references of its own.
struct TlsCertificate {
  X509* leaf = nullptr;
  EVP_PKEY* key = nullptr;  ///< Belongs to `leaf`.
  /// Sent behind the leaf in this order; the meta certificate is last.
  std::vector<X509*> chain{};
  /// Shown to clients that ask for this name (SNI). Empty: to any that no other one is for.
  std::string dns_name{};
  /// Shown to clients that ask for no name or for an address and reached the relay at this one.
  std::string ip{};
};

/// What a TLS server shows and demands.
struct TlsServerOptions {
  X509* leaf = nullptr;     ///< Null: no certificate yet, see TlsContext::set_certificates().
  EVP_PKEY* key = nullptr;  ///< Belongs to `leaf`.
  std::vector<X509*> chain{};
  /// Who protects the records of TLS 1.3 with AES-GCM after the handshake; nullopt = OpenSSL.
  std::optional<RecordKey::Backend> own_records{};
  /// When not empty, a client whose SNI is absent or another name is refused. A client without a
  /// name is served all the same where there are certificates for addresses.
  std::string required_sni{};
};

/// TLS 1.2 and 1.3 for the relay's listener: no tickets, no session cache, no renegotiation,
/// buffers released while idle, ALPN http/1.1. One for all workers, for the life of the relay.
///
/// Its certificates can be exchanged at any time from any thread: handshakes that begin afterwards
/// show the new ones, connections that are there keep theirs.
class TlsContext {
 public:
  /// Gives OpenSSL's reason when it refuses a part.
  [[nodiscard]] static std::expected<std::unique_ptr<TlsContext>, std::string> make(
      const TlsServerOptions& options);

  [[nodiscard]] std::optional<RecordKey::Backend> own_records() const { return own_records_; }

  /// Puts these certificates in the place of all that were there; the first is shown where nothing
  /// else decides. On failure (OpenSSL's reason) the old ones stay.
  [[nodiscard]] std::expected<void, std::string> set_certificates(
      std::span<const TlsCertificate> certificates);

  /// What to say about handshakes that fail for want of a certificate.
  void set_waiting_for(std::string what);
  /// Empty once there is a certificate.
  [[nodiscard]] std::string waiting_for() const;

  /// Shows `leaf` to whoever checks for ACME whether we own `name` (TLS-ALPN-01, RFC 8737), until
  /// it is removed. An IP address is given in its form for DNS: 1.2.0.192.in-addr.arpa.
  [[nodiscard]] std::expected<void, std::string> add_challenge(std::string_view name, X509* leaf,
                                                               EVP_PKEY* key);
  void remove_challenge(std::string_view name);

  /// Calls `handler` for every handshake of a client that reached us at an address that no
  /// certificate is for, on the thread of that client: it has to be quick. Before other threads use
  /// this object.
  void on_unknown_address(std::function<void(std::string_view local_ip)> handler) {
    on_unknown_address_ = std::move(handler);
    depends_on_address_.store(true, std::memory_order_relaxed);
  }

  /// Whether new_ssl() wants to know at which address the client reached us.
  [[nodiscard]] bool depends_on_address() const {
    return depends_on_address_.load(std::memory_order_relaxed);
  }
  /// The state of one connection, null when out of memory. It keeps what it needs of the
  /// certificates of this moment. `local_ip` may be empty when depends_on_address() is false.
  [[nodiscard]] SSL* new_ssl(std::string_view local_ip) const;

  /// The in-memory BIO that OpenSslTransport puts between OpenSSL and its buffers.
  [[nodiscard]] const BIO_METHOD* bio_method() const { return bio_method_.get(); }

 private:
  using ContextPtr = std::unique_ptr<SSL_CTX, SslCtxDeleter>;
  struct Shown {
    ContextPtr context;
    std::string dns_name;
    std::string ip;
  };
  using ShownList = std::vector<Shown>;

  TlsContext() = default;

  [[nodiscard]] std::expected<ContextPtr, std::string> new_context();
  [[nodiscard]] std::expected<ContextPtr, std::string> new_context(X509* leaf, EVP_PKEY* key,
                                                                   std::span<X509* const> chain);
  [[nodiscard]] std::shared_ptr<const ShownList> shown() const;
  [[nodiscard]] bool show_challenge(SSL* ssl) const;
  [[nodiscard]] int show_name(SSL* ssl, std::string_view name) const;

  static int on_client_hello(SSL* ssl, int* alert, void* self);
  static int check_server_name(SSL* ssl, int* alert, void* self);
  static int select_protocol(SSL* ssl, const unsigned char** out, unsigned char* out_size,
                             const unsigned char* in, unsigned int in_size, void* self);

  std::unique_ptr<BIO_METHOD, BioMethodDeleter> bio_method_;
  std::string required_sni_;
  std::optional<RecordKey::Backend> own_records_;
  std::function<void(std::string_view local_ip)> on_unknown_address_;
  ContextPtr without_certificate_;

  std::atomic<bool> depends_on_address_{false};
  std::atomic<bool> has_challenges_{false};
  mutable std::mutex mutex_;  ///< Held for a few instructions, once or twice in a handshake.
  std::shared_ptr<const ShownList> shown_;  ///< Never null.
  std::map<std::string, ContextPtr, std::less<>> challenges_;
  std::string waiting_for_;
};

/// Takes OpenSSL's oldest queued error of this thread as text and clears the queue.
[[nodiscard]] std::string take_openssl_error();

}  // namespace detour::net
