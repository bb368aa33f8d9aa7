#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string_view>

#include "net/tls_context.h"
#include "net/tls_provider.h"
#include "net/transport.h"

namespace detour::net {

/// The server side of TLS by OpenSSL, any version and cipher, over a BIO that reads from what was
/// fed and writes to the caller's sink: no socket, no copies of its own, no read-ahead.
class OpenSslTransport final : public Transport {
 public:
  /// `context` must outlive the transport; `local_ip` as for TlsContext::new_ssl(). Null when out
  /// of memory.
  [[nodiscard]] static std::unique_ptr<OpenSslTransport> make(const TlsContext& context,
                                                              std::string_view local_ip = {});

  void feed(std::span<const std::uint8_t> input) override { input_ = input; }
  Handshake handshake(ByteBuffer& sink) override;
  /// A RecordTransport, for TLS 1.3 with AES-GCM if the context says so.
  std::unique_ptr<Transport> successor() override;
  OpenResult open(std::span<std::uint8_t> out, ByteBuffer& sink) override;
  bool seal(std::span<const std::uint8_t> plaintext, ByteBuffer& sink) override;
  void seal_close(ByteBuffer& sink) override;
  [[nodiscard]] std::string failure() const override { return failure_; }
  [[nodiscard]] Version version() const override;

  /// The functions of the BIO; see TlsContext::make.
  static int bio_write(BIO* bio, const char* data, int size);
  static int bio_read(BIO* bio, char* data, int size);
  static long bio_control(BIO* bio, int command, long argument, void* pointer);

 private:
  struct SslDeleter {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };

  OpenSslTransport() = default;
  void note_failure(int ssl_error);

  std::unique_ptr<SSL, SslDeleter> ssl_;
  std::optional<RecordKey::Backend> own_records_;
  tls13::TrafficSecrets secrets_;  ///< While own_records_ waits for them.
  std::span<const std::uint8_t> input_;
  ByteBuffer* sink_ = nullptr;  ///< Only during a call.
  std::string failure_;
};

}  // namespace detour::net
