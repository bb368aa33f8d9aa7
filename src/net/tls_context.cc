#include "net/tls_context.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <openssl/err.h>
#include <strings.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <utility>

#include "net/openssl_transport.h"
#include "net/tls_provider.h"

namespace detour::net {

namespace {

constexpr const char* kCipherSuites =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
constexpr const char* kTls12Ciphers =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
    // Nobody prefers these, but the reference takes them: from the last resort of Go's list.
    "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA";
/// In the order of the reference. OpenSSL knows the first one since 3.5; its own list would add
/// X448 and the large groups of Diffie-Hellman, which cost the server much.
constexpr std::array<const char*, 2> kGroups = {"X25519MLKEM768:X25519:P-256:P-384:P-521",
                                                "X25519:P-256:P-384:P-521"};

constexpr std::string_view kHttp = "http/1.1";
constexpr std::string_view kAcme = "acme-tls/1";

std::string refused(std::string_view part) {
  return fmt::format("OpenSSL refuses {}: {}", part, take_openssl_error());
}

bool same_name(std::string_view a, std::string_view b) {
  return a.size() == b.size() && ::strncasecmp(a.data(), b.data(), a.size()) == 0;
}

bool is_ip(const char* text) {
  std::array<unsigned char, 16> bytes{};
  return ::inet_pton(AF_INET, text, bytes.data()) == 1 ||
         ::inet_pton(AF_INET6, text, bytes.data()) == 1;
}

std::string_view extension(SSL* ssl, unsigned int type) {
  const unsigned char* data = nullptr;
  std::size_t size = 0;
  if (SSL_client_hello_get0_ext(ssl, type, &data, &size) != 1) return {};
  return {reinterpret_cast<const char*>(data), size};
}

/// Takes a number of `Width` bytes, big-endian, and as many bytes as it says, off the front.
/// Nullopt-like: an empty view with a null pointer when the text is too short.
template <std::size_t Width>
std::string_view take_block(std::string_view& rest) {
  if (rest.size() < Width) return {};
  std::size_t size = 0;
  for (std::size_t i = 0; i < Width; ++i) size = size << 8U | static_cast<unsigned char>(rest[i]);
  if (rest.size() - Width < size) return {};
  const std::string_view block = rest.substr(Width, size);
  rest.remove_prefix(Width + size);
  return block;
}

/// Whether the client offers `acme-tls/1` and nothing else (RFC 8737 section 3).
bool offers_acme_alone(SSL* ssl) {
  std::string_view offered = extension(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation);
  std::string_view list = take_block<2>(offered);
  return take_block<1>(list) == kAcme && list.empty();
}

/// The host name in the server name extension (RFC 6066 section 3).
std::string_view asked_name(SSL* ssl) {
  std::string_view sent = extension(ssl, TLSEXT_TYPE_server_name);
  std::string_view list = take_block<2>(sent);
  if (list.empty() || list.front() != TLSEXT_NAMETYPE_host_name) return {};
  list.remove_prefix(1);
  return take_block<2>(list);
}

int select_acme(SSL* /*ssl*/, const unsigned char** out, unsigned char* out_size,
                const unsigned char* in, unsigned int in_size, void* /*argument*/) {
  // Only the client that offers this alone gets here.
  if (in_size != kAcme.size() + 1) return SSL_TLSEXT_ERR_ALERT_FATAL;
  *out = in + 1;
  *out_size = in[0];
  return SSL_TLSEXT_ERR_OK;
}

int accept_server_name(SSL* /*ssl*/, int* /*alert*/, void* /*argument*/) {
  return SSL_TLSEXT_ERR_OK;
}

bool set_groups(SSL_CTX* context) {
  const bool set = std::ranges::any_of(kGroups, [context](const char* groups) {
    return SSL_CTX_ctrl(context, SSL_CTRL_SET_GROUPS_LIST, 0, const_cast<char*>(groups)) == 1;
  });
  ERR_clear_error();
  return set;
}

/// What SSL_CTX_set_tlsext_servername_callback() expands to, without its C cast.
void set_server_name_callback(SSL_CTX* context, int (*callback)(SSL*, int*, void*)) {
  SSL_CTX_callback_ctrl(context, SSL_CTRL_SET_TLSEXT_SERVERNAME_CB,
                        reinterpret_cast<void (*)()>(callback));
}

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
  std::unique_ptr<TlsContext> made(new TlsContext);
  made->required_sni_ = options.required_sni;
  made->own_records_ = options.own_records;
  made->shown_ = std::make_shared<const ShownList>();
  made->bio_method_.reset(BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "detour"));
  if (!made->bio_method_) return std::unexpected(refused("a BIO method"));
  BIO_METHOD* const method = made->bio_method_.get();
  BIO_meth_set_write(method, OpenSslTransport::bio_write);
  BIO_meth_set_read(method, OpenSslTransport::bio_read);
  BIO_meth_set_ctrl(method, OpenSslTransport::bio_control);

  auto without_certificate = made->new_context();
  if (!without_certificate) return std::unexpected(without_certificate.error());
  made->without_certificate_ = std::move(*without_certificate);
  if (options.leaf == nullptr) return made;

  const std::array certificates{TlsCertificate{
      .leaf = options.leaf, .key = options.key, .chain = options.chain, .dns_name = "", .ip = ""}};
  if (auto set = made->set_certificates(certificates); !set) return std::unexpected(set.error());
  return made;
}

/// Everything that is the same for all certificates.
std::expected<TlsContext::ContextPtr, std::string> TlsContext::new_context() {
  ContextPtr owner(SSL_CTX_new_ex(nullptr, tls13::install_tls_provider(), TLS_server_method()));
  if (!owner) return std::unexpected(refused("a TLS context"));
  SSL_CTX* const context = owner.get();
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  // AES-128-GCM is the cheapest for both sides; a client that puts ChaCha20 first has no AES in
  // hardware and gets it. Every client of DERP knows one of these.
  if (SSL_CTX_set_ciphersuites(context, kCipherSuites) != 1 ||
      SSL_CTX_set_cipher_list(context, kTls12Ciphers) != 1)
    return std::unexpected(refused("the list of ciphers"));
  if (!set_groups(context)) return std::unexpected(refused("the list of groups"));
  SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                   SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
  SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
  SSL_CTX_set_read_ahead(context, 0);
  SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nullptr);
  SSL_CTX_set_client_hello_cb(context, on_client_hello, this);
  set_server_name_callback(context, check_server_name);
  SSL_CTX_set_tlsext_servername_arg(context, this);
  SSL_CTX_set_alpn_select_cb(context, select_protocol, this);
  return owner;
}

std::expected<TlsContext::ContextPtr, std::string> TlsContext::new_context(
    X509* leaf, EVP_PKEY* key, std::span<X509* const> chain) {
  auto made = new_context();
  if (!made) return made;
  SSL_CTX* const context = made->get();
  if (SSL_CTX_use_certificate(context, leaf) != 1)
    return std::unexpected(refused("the certificate"));
  if (SSL_CTX_use_PrivateKey(context, key) != 1)
    return std::unexpected(refused("the certificate's key"));
  for (X509* const certificate : chain) {
    if (SSL_CTX_add1_chain_cert(context, certificate) != 1)
      return std::unexpected(refused("the chain"));
  }
  return made;
}

std::expected<void, std::string> TlsContext::set_certificates(
    std::span<const TlsCertificate> certificates) {
  auto list = std::make_shared<ShownList>();
  for (const TlsCertificate& certificate : certificates) {
    auto context = new_context(certificate.leaf, certificate.key, certificate.chain);
    if (!context) return std::unexpected(context.error());
    list->push_back(
        {.context = std::move(*context), .dns_name = certificate.dns_name, .ip = certificate.ip});
  }
  const auto for_address =
      std::ranges::count_if(*list, [](const Shown& s) { return !s.ip.empty(); });
  std::shared_ptr<const ShownList> published = std::move(list);
  {
    const std::lock_guard lock(mutex_);
    shown_.swap(published);
    if (!shown_->empty()) waiting_for_.clear();
  }
  depends_on_address_.store(for_address > 0 || on_unknown_address_, std::memory_order_relaxed);
  return {};  // What was there before ends here, outside the lock.
}

void TlsContext::set_waiting_for(std::string what) {
  const std::lock_guard lock(mutex_);
  if (shown_->empty()) waiting_for_ = std::move(what);
}

std::string TlsContext::waiting_for() const {
  const std::lock_guard lock(mutex_);
  return waiting_for_;
}

std::expected<void, std::string> TlsContext::add_challenge(std::string_view name, X509* leaf,
                                                           EVP_PKEY* key) {
  auto context = new_context(leaf, key, {});
  if (!context) return std::unexpected(context.error());
  SSL_CTX_set_client_hello_cb(context->get(), nullptr, nullptr);
  set_server_name_callback(context->get(), accept_server_name);
  SSL_CTX_set_alpn_select_cb(context->get(), select_acme, nullptr);
  const std::lock_guard lock(mutex_);
  challenges_.insert_or_assign(std::string(name), std::move(*context));
  has_challenges_.store(true, std::memory_order_relaxed);
  return {};
}

void TlsContext::remove_challenge(std::string_view name) {
  const std::lock_guard lock(mutex_);
  const auto found = challenges_.find(name);
  if (found != challenges_.end()) challenges_.erase(found);
  has_challenges_.store(!challenges_.empty(), std::memory_order_relaxed);
}

std::shared_ptr<const TlsContext::ShownList> TlsContext::shown() const {
  const std::lock_guard lock(mutex_);
  return shown_;
}

SSL* TlsContext::new_ssl(std::string_view local_ip) const {
  const auto list = shown();
  const Shown* chosen = nullptr;
  for (const Shown& candidate : *list) {
    if (candidate.ip.empty()) continue;
    if (candidate.ip == local_ip) return SSL_new(candidate.context.get());
    // Behind address translation the client's address for us is none of ours.
    if (chosen == nullptr) chosen = &candidate;
  }
  if (on_unknown_address_) on_unknown_address_(local_ip);
  if (list->empty()) return SSL_new(without_certificate_.get());
  return SSL_new((chosen != nullptr ? *chosen : list->front()).context.get());
}

bool TlsContext::show_challenge(SSL* ssl) const {
  if (!has_challenges_.load(std::memory_order_relaxed) || !offers_acme_alone(ssl)) return false;
  const std::string_view name = asked_name(ssl);
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find_if(
      challenges_, [&](const auto& entry) { return same_name(entry.first, name); });
  return found != challenges_.end() && SSL_set_SSL_CTX(ssl, found->second.get()) != nullptr;
}

int TlsContext::on_client_hello(SSL* ssl, int* alert, void* self) {
  const auto* const context = static_cast<const TlsContext*>(self);
  if (context->show_challenge(ssl)) return SSL_CLIENT_HELLO_SUCCESS;
  if (SSL_get_SSL_CTX(ssl) != context->without_certificate_.get()) return SSL_CLIENT_HELLO_SUCCESS;
  *alert = SSL_AD_INTERNAL_ERROR;  // As Go's autocert.
  return SSL_CLIENT_HELLO_ERROR;
}

int TlsContext::show_name(SSL* ssl, std::string_view name) const {
  const auto list = shown();
  for (const Shown& candidate : *list) {
    if (candidate.dns_name.empty() || !same_name(candidate.dns_name, name)) continue;
    if (SSL_get_SSL_CTX(ssl) != candidate.context.get() &&
        SSL_set_SSL_CTX(ssl, candidate.context.get()) == nullptr)
      return SSL_TLSEXT_ERR_ALERT_FATAL;
    return SSL_TLSEXT_ERR_OK;
  }
  const bool served = required_sni_.empty() || same_name(required_sni_, name);
  return served ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

int TlsContext::check_server_name(SSL* ssl, int* alert, void* self) {
  const auto* const context = static_cast<const TlsContext*>(self);
  const char* const sent = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  *alert = SSL_AD_UNRECOGNIZED_NAME;
  if (sent != nullptr && !is_ip(sent)) return context->show_name(ssl, sent);
  if (context->required_sni_.empty() || context->depends_on_address()) return SSL_TLSEXT_ERR_OK;
  return sent != nullptr && same_name(context->required_sni_, sent) ? SSL_TLSEXT_ERR_OK
                                                                    : SSL_TLSEXT_ERR_ALERT_FATAL;
}

int TlsContext::select_protocol(SSL* /*ssl*/, const unsigned char** out, unsigned char* out_size,
                                const unsigned char* in, unsigned int in_size, void* /*self*/) {
  for (unsigned int at = 0; at < in_size; at += 1U + in[at]) {
    const std::string_view offered(reinterpret_cast<const char*>(in + at + 1), in[at]);
    if (offered != kHttp) continue;
    *out = in + at + 1;
    *out_size = in[at];
    return SSL_TLSEXT_ERR_OK;
  }
  // RFC 7301 section 3.2, and so the reference does it.
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

}  // namespace detour::net
