#include "net/openssl_transport.h"

#include <fmt/format.h>
#include <openssl/err.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "net/record_transport.h"

namespace detour::net {

namespace {

// RFC 8446 appendix B.4.
constexpr std::uint16_t kAes128GcmSha256 = 0x1301;
constexpr std::uint16_t kAes256GcmSha384 = 0x1302;

/// Lends a sink to the BIO for the length of a call.
class SinkScope {
 public:
  SinkScope(ByteBuffer*& place, ByteBuffer& sink) : place_(place) { place_ = &sink; }
  ~SinkScope() { place_ = nullptr; }
  SinkScope(const SinkScope&) = delete;
  SinkScope& operator=(const SinkScope&) = delete;

 private:
  ByteBuffer*& place_;
};

/// What an alert from the client means for the operator, beyond its name.
std::string_view alert_hint(int reason) {
  switch (reason) {
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
      return "the client does not trust this certificate: for a self-signed one its DERP map needs "
             "CertName with the sha256-raw pin, otherwise check that the chain is complete";
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
      return "the client takes this certificate for expired: check the certificate's dates and the "
             "clocks of both sides";
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
      return "the client rejects this certificate: check name, dates and the map's CertName";
    case SSL_R_HTTP_REQUEST:
    case SSL_R_WRONG_VERSION_NUMBER:
      return "something on the other side does not speak TLS: a plain-HTTP client or a scanner";
    default:
      return {};
  }
}

}  // namespace

std::unique_ptr<OpenSslTransport> OpenSslTransport::make(const TlsContext& context,
                                                         std::string_view local_ip) {
  std::unique_ptr<OpenSslTransport> transport(new OpenSslTransport);
  transport->ssl_.reset(context.new_ssl(local_ip));
  BIO* const bio = BIO_new(context.bio_method());
  if (!transport->ssl_ || bio == nullptr) {
    BIO_free(bio);
    return nullptr;
  }
  transport->own_records_ = context.own_records();
  BIO_set_data(bio, transport.get());
  BIO_set_init(bio, 1);
  SSL_set_bio(transport->ssl_.get(), bio, bio);
  SSL_set_accept_state(transport->ssl_.get());
  return transport;
}

int OpenSslTransport::bio_write(BIO* bio, const char* data, int size) {
  auto* const self = static_cast<OpenSslTransport*>(BIO_get_data(bio));
  if (size <= 0 || self->sink_ == nullptr) return -1;
  self->sink_->append(
      {reinterpret_cast<const std::uint8_t*>(data), static_cast<std::size_t>(size)});
  return size;
}

int OpenSslTransport::bio_read(BIO* bio, char* data, int size) {
  auto* const self = static_cast<OpenSslTransport*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  if (self->input_.empty()) {
    BIO_set_retry_read(bio);
    return -1;
  }
  const std::size_t taken =
      std::min(self->input_.size(), static_cast<std::size_t>(std::max(size, 0)));
  std::memcpy(data, self->input_.data(), taken);
  self->input_ = self->input_.subspan(taken);
  return static_cast<int>(taken);
}

long OpenSslTransport::bio_control(BIO* /*bio*/, int command, long /*argument*/,
                                   void* /*pointer*/) {
  // Flushing is the caller's business; everything else does not apply to memory.
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

Transport::Handshake OpenSslTransport::handshake(ByteBuffer& sink) {
  const SinkScope scope(sink_, sink);
  const tls13::SecretCapture capture(secrets_);
  const int result = SSL_do_handshake(ssl_.get());
  if (result == 1) return Handshake::kDone;
  const int error = SSL_get_error(ssl_.get(), result);
  if (error == SSL_ERROR_WANT_READ) return Handshake::kNeedsInput;
  note_failure(error);
  return Handshake::kFailed;
}

std::unique_ptr<Transport> OpenSslTransport::successor() {
  SSL* const ssl = ssl_.get();
  // OpenSSL reads no further than the record that it needs, so all that is left is in input_.
  if (!own_records_ || SSL_version(ssl) != TLS1_3_VERSION || SSL_has_pending(ssl) != 0 ||
      secrets_.client.empty() || secrets_.server.empty())
    return nullptr;
  RecordTransport::Options options{.read = std::move(secrets_.client),
                                   .write = std::move(secrets_.server),
                                   .backend = *own_records_};
  switch (SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(ssl))) {
    case kAes128GcmSha256:
      options.hash = tls13::Hash::kSha256;
      options.key_size = 16;
      break;
    case kAes256GcmSha384:
      options.hash = tls13::Hash::kSha384;
      options.key_size = 32;
      break;
    default:
      return nullptr;
  }
  auto successor = RecordTransport::make(std::move(options));
  if (successor) successor->feed(input_);
  return successor;
}

Transport::OpenResult OpenSslTransport::open(std::span<std::uint8_t> out, ByteBuffer& sink) {
  const SinkScope scope(sink_, sink);
  std::size_t size = 0;
  while (size < out.size()) {
    std::size_t opened = 0;
    const int result = SSL_read_ex(ssl_.get(), out.data() + size, out.size() - size, &opened);
    if (result == 1) {
      size += opened;
      continue;
    }
    const int error = SSL_get_error(ssl_.get(), result);
    if (error == SSL_ERROR_WANT_READ) {
      // OpenSSL also stops behind a message of its own, such as a KeyUpdate.
      if (!input_.empty()) continue;
      return {.size = size, .status = Opened::kNeedsInput};
    }
    if (error == SSL_ERROR_ZERO_RETURN) return {.size = size, .status = Opened::kClosed};
    note_failure(error);
    return {.size = size, .status = Opened::kFailed};
  }
  return {.size = size, .status = Opened::kOutputFull};
}

bool OpenSslTransport::seal(std::span<const std::uint8_t> plaintext, ByteBuffer& sink) {
  if (plaintext.empty()) return true;
  const SinkScope scope(sink_, sink);
  std::size_t written = 0;
  if (SSL_write_ex(ssl_.get(), plaintext.data(), plaintext.size(), &written) == 1) return true;
  note_failure(SSL_get_error(ssl_.get(), 0));
  return false;
}

void OpenSslTransport::seal_close(ByteBuffer& sink) {
  if (SSL_in_init(ssl_.get()) != 0 || !failure_.empty()) return;
  const SinkScope scope(sink_, sink);
  static_cast<void>(SSL_shutdown(ssl_.get()));
  ERR_clear_error();
}

void OpenSslTransport::note_failure(int ssl_error) {
  const unsigned long code = ERR_peek_error();
  const std::string_view hint = alert_hint(ERR_GET_REASON(code));
  std::string text = take_openssl_error();
  if (text.empty()) text = fmt::format("OpenSSL error {}", ssl_error);
  failure_ = hint.empty() ? text : fmt::format("{} ({})", text, hint);
}

Transport::Version OpenSslTransport::version() const {
  switch (SSL_version(ssl_.get())) {
    case TLS1_VERSION:
      return Version::kTls10;
    case TLS1_1_VERSION:
      return Version::kTls11;
    case TLS1_2_VERSION:
      return Version::kTls12;
    case TLS1_3_VERSION:
      return Version::kTls13;
    default:
      return Version::kUnknown;
  }
}

}  // namespace detour::net
