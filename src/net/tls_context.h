#pragma once

#include <openssl/ssl.h>

#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "net/record_key.h"

namespace detour::net {

struct SslCtxDeleter {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
struct BioMethodDeleter {
  void operator()(BIO_METHOD* method) const { BIO_meth_free(method); }
};

/// What a TLS server shows and demands.
struct TlsServerOptions {
  X509* leaf = nullptr;     ///< Only read during make(); the context keeps its own references.
  EVP_PKEY* key = nullptr;  ///< Belongs to `leaf`.
  std::vector<X509*>
      chain{};  ///< Sent behind the leaf in this order; the meta certificate is last.
  /// Who protects the records of TLS 1.3 with AES-GCM after the handshake; nullopt = OpenSSL.
  std::optional<RecordKey::Backend> own_records{};
  /// When not empty, a client whose SNI is absent or another name is refused.
  std::string required_sni{};
};

/// TLS 1.2 and 1.3 for the relay's listener: no tickets, no session cache, no renegotiation,
/// buffers released while idle, ALPN http/1.1. Shared by all workers; immutable after make().
class TlsContext {
 public:
  /// Gives OpenSSL's reason when it refuses a part.
  [[nodiscard]] static std::expected<std::unique_ptr<TlsContext>, std::string> make(
      const TlsServerOptions& options);

  [[nodiscard]] SSL_CTX* ssl_context() const { return context_.get(); }
  [[nodiscard]] std::optional<RecordKey::Backend> own_records() const { return own_records_; }
  /// The in-memory BIO that OpenSslTransport puts between OpenSSL and its buffers.
  [[nodiscard]] const BIO_METHOD* bio_method() const { return bio_method_.get(); }

 private:
  TlsContext() = default;

  static int check_server_name(SSL* ssl, int* alert, void* self);
  static int select_protocol(SSL* ssl, const unsigned char** out, unsigned char* out_size,
                             const unsigned char* in, unsigned int in_size, void* self);

  std::unique_ptr<SSL_CTX, SslCtxDeleter> context_;
  std::unique_ptr<BIO_METHOD, BioMethodDeleter> bio_method_;
  std::string required_sni_;
  std::optional<RecordKey::Backend> own_records_;
};

/// Takes OpenSSL's oldest queued error of this thread as text and clears the queue.
[[nodiscard]] std::string take_openssl_error();

}  // namespace detour::net
