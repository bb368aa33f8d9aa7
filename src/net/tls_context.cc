#include "net/tls_context.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <strings.h>

#include <cstring>
#include <string_view>

#include "net/openssl_transport.h"
#include "net/tls_provider.h"

namespace detour::net {

namespace {

constexpr const char* kCipherSuites =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
constexpr const char* kTls12Ciphers =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";

}  // namespace

std::string take_openssl_error() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  if (code == 0) return {};
  const char* const reason = ERR_reason_error_string(code);
  return reason != nullptr ? reason : fmt::format("code {:#x}", code);
}

std::expected<std::unique_ptr<TlsContext>, std::string> TlsContext::make(
    const TlsServerOptions& options) {
  const auto refused = [](std::string_view part) {
    return std::unexpected(fmt::format("OpenSSL refuses {}: {}", part, take_openssl_error()));
  };

  std::unique_ptr<TlsContext> made(new TlsContext);
  made->required_sni_ = options.required_sni;
  made->own_records_ = options.own_records;
  made->bio_method_.reset(BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "detour"));
  if (!made->bio_method_) return refused("a BIO method");
  BIO_METHOD* const method = made->bio_method_.get();
  BIO_meth_set_write(method, OpenSslTransport::bio_write);
  BIO_meth_set_read(method, OpenSslTransport::bio_read);
  BIO_meth_set_ctrl(method, OpenSslTransport::bio_control);

  made->context_.reset(SSL_CTX_new_ex(nullptr, tls13::install_tls_provider(), TLS_server_method()));
  if (!made->context_) return refused("a TLS context");
  SSL_CTX* const context = made->context_.get();
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  // AES-128-GCM is the cheapest for both sides; a client that puts ChaCha20 first has no AES in
  // hardware and gets it. Every client of DERP knows one of these.
  if (SSL_CTX_set_ciphersuites(context, kCipherSuites) != 1 ||
      SSL_CTX_set_cipher_list(context, kTls12Ciphers) != 1)
    return refused("the list of ciphers");
  SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                   SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
  SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
  SSL_CTX_set_read_ahead(context, 0);
  SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nullptr);

  if (SSL_CTX_use_certificate(context, options.leaf) != 1) return refused("the certificate");
  if (SSL_CTX_use_PrivateKey(context, options.key) != 1) return refused("the certificate's key");
  for (X509* const certificate : options.chain) {
    if (SSL_CTX_add1_chain_cert(context, certificate) != 1) return refused("the chain");
  }
  // What SSL_CTX_set_tlsext_servername_callback() expands to, without its C cast.
  SSL_CTX_callback_ctrl(context, SSL_CTRL_SET_TLSEXT_SERVERNAME_CB,
                        reinterpret_cast<void (*)()>(check_server_name));
  SSL_CTX_set_tlsext_servername_arg(context, made.get());
  SSL_CTX_set_alpn_select_cb(context, select_protocol, made.get());
  return made;
}

int TlsContext::check_server_name(SSL* ssl, int* alert, void* self) {
  const std::string& required = static_cast<const TlsContext*>(self)->required_sni_;
  if (required.empty()) return SSL_TLSEXT_ERR_OK;
  const char* const sent = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  if (sent != nullptr && ::strcasecmp(sent, required.c_str()) == 0) return SSL_TLSEXT_ERR_OK;
  *alert = SSL_AD_UNRECOGNIZED_NAME;
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

int TlsContext::select_protocol(SSL* /*ssl*/, const unsigned char** out, unsigned char* out_size,
                                const unsigned char* in, unsigned int in_size, void* /*self*/) {
  constexpr std::string_view kWanted = "http/1.1";
  for (unsigned int at = 0; at < in_size; at += 1U + in[at]) {
    const std::string_view offered(reinterpret_cast<const char*>(in + at + 1), in[at]);
    if (offered != kWanted) continue;
    *out = in + at + 1;
    *out_size = in[at];
    return SSL_TLSEXT_ERR_OK;
  }
  // A client that offers only others may still speak HTTP/1.1.
  return SSL_TLSEXT_ERR_NOACK;
}

}  // namespace detour::net
