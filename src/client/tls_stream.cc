#include "client/tls_stream.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/tls1.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/bytes.h"
#include "derp/frame.h"

namespace detour::client {

namespace {

constexpr std::string_view kPinPrefix = "sha256-raw:";
/// The common name of a meta certificate: this, then 64 hex digits.
constexpr std::string_view kMetaPrefix = "derpkey";
/// With read-ahead OpenSSL asks for this much at a time: several records per call.
constexpr std::size_t kReadAhead = 64 * 1024;

/// The newest error on OpenSSL's queue; empties the queue.
unsigned long take_openssl_error() {
  const unsigned long code = ERR_peek_last_error();
  ERR_clear_error();
  return code;
}

/// An error in OpenSSL's own words.
std::string reason_text(unsigned long code) {
  if (code == 0) return "no reason given";
  if (const char* reason = ERR_reason_error_string(code)) return reason;
  return fmt::format("OpenSSL error {:#x}", code);
}

std::string openssl_reason() {
  return reason_text(take_openssl_error());
}

TlsProblem problem_of_handshake(unsigned long code) {
  if (ERR_GET_LIB(code) != ERR_LIB_SSL) return TlsProblem::kNone;
  const int reason = ERR_GET_REASON(code);
  if (reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST ||
      reason == SSL_R_HTTPS_PROXY_REQUEST || reason == SSL_R_PACKET_LENGTH_TOO_LONG)
    return TlsProblem::kNotTls;
  // Alerts that the other side sent are reasons from 1000 on.
  return reason >= SSL_AD_REASON_OFFSET ? TlsProblem::kRefused : TlsProblem::kNone;
}

TlsProblem problem_of_certificate(long verdict) {
  switch (verdict) {
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
      return TlsProblem::kSelfSigned;
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return TlsProblem::kExpired;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return TlsProblem::kWrongName;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
      return TlsProblem::kUnknownIssuer;
    default:
      return TlsProblem::kNone;
  }
}

/// The text of a certificate's common name; empty when it has none.
std::string_view common_name(const X509* certificate) {
  const X509_NAME* subject = X509_get_subject_name(certificate);
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at < 0) return {};
  const ASN1_STRING* text = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
  return as_text({ASN1_STRING_get0_data(text), static_cast<std::size_t>(ASN1_STRING_length(text))});
}

bool is_meta(const X509* certificate) {
  return common_name(certificate).starts_with(kMetaPrefix);
}

std::optional<Sha256> sha256_of(const X509* certificate) {
  Sha256 digest;
  unsigned size = 0;
  if (X509_digest(certificate, EVP_sha256(), digest.data(), &size) != 1) return std::nullopt;
  return digest;
}

bool is_ip_address(const std::string& host) {
  ASN1_OCTET_STRING* address = a2i_IPADDRESS(host.c_str());
  ASN1_OCTET_STRING_free(address);
  return address != nullptr;
}

/// SSL_set_tlsext_host_name() without the casts of its macro. OpenSSL copies the name.
void send_server_name(SSL* ssl, std::string server_name) {
  SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, server_name.data());
}

/// Tells OpenSSL which name the certificate must cover.
void expect_name(SSL* ssl, const std::string& host) {
  if (is_ip_address(host)) {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host.c_str());
    return;
  }
  SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  SSL_set1_host(ssl, host.c_str());
}

bool set_versions(SSL_CTX* context, TlsVersions versions) {
  const int lowest = versions == TlsVersions::kOnly13 ? TLS1_3_VERSION : TLS1_2_VERSION;
  const int highest = versions == TlsVersions::kOnly12 ? TLS1_2_VERSION : TLS1_3_VERSION;
  return SSL_CTX_set_min_proto_version(context, lowest) == 1 &&
         SSL_CTX_set_max_proto_version(context, highest) == 1;
}

bool set_aes128_gcm(SSL_CTX* context) {
  return SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") == 1 &&
         SSL_CTX_set_cipher_list(context,
                                 "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256") == 1;
}

bool load_authorities(SSL_CTX* context, const std::string& file) {
  if (file.empty()) return SSL_CTX_set_default_verify_paths(context) == 1;
  return SSL_CTX_load_verify_file(context, file.c_str()) == 1;
}

}  // namespace

std::optional<Sha256> parse_pin(std::string_view text) {
  if (!text.starts_with(kPinPrefix)) return std::nullopt;
  text.remove_prefix(kPinPrefix.size());
  if (text.size() != 2 * kSha256Size) return std::nullopt;
  Sha256 pin;
  for (std::size_t i = 0; i < pin.size(); ++i) {
    const char* digits = text.data() + 2 * i;
    const auto [end, error] = std::from_chars(digits, digits + 2, pin[i], 16);
    if (error != std::errc{} || end != digits + 2) return std::nullopt;
  }
  return pin;
}

std::string format_pin(const Sha256& digest) {
  return fmt::format("{}{:02x}", kPinPrefix, fmt::join(digest, ""));
}

Outcome<TlsContext> TlsContext::create(TlsSettings settings) {
  TlsContext made;
  made.context_.reset(SSL_CTX_new(TLS_client_method()));
  SSL_CTX* context = made.context_.get();
  if (context == nullptr) return give_up(Layer::kTls, openssl_reason());
  if (!set_versions(context, settings.versions)) return give_up(Layer::kTls, openssl_reason());
  if (settings.only_aes128_gcm && !set_aes128_gcm(context))
    return give_up(Layer::kTls, openssl_reason());

  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(context, SSL_MODE_AUTO_RETRY | SSL_MODE_ENABLE_PARTIAL_WRITE);
  if (settings.keep_buffers) {
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, kReadAhead);
  } else {
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
  }
  const bool verify = settings.trust.kind == Trust::Kind::kAuthorities;
  if (verify && !load_authorities(context, settings.trust.authorities_file))
    return give_up(Layer::kTls, fmt::format("cannot read the authorities in '{}': {}",
                                            settings.trust.authorities_file, openssl_reason()));
  // OpenSSL still verifies and keeps the verdict. We judge it after the handshake, when the
  // certificate can be shown to whoever has to mend this.
  SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nullptr);
  made.settings_ = std::move(settings);
  return made;
}

TlsStream::TlsStream(const TlsContext& context, const std::string& host,
                     const std::string& server_name)
    : context_(context), ssl_(SSL_new(context.native())) {
  BIO* bio = BIO_new(bio_method());
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_.get(), bio, bio);  // Owns it from here, for both directions.
  SSL_set_connect_state(ssl_.get());
  if (!server_name.empty()) send_server_name(ssl_.get(), server_name);
  if (context.trust().kind == Trust::Kind::kAuthorities) expect_name(ssl_.get(), host);
}

TlsStream::~TlsStream() = default;

TlsStream::Status TlsStream::handshake() {
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_.get());
  if (result != 1) return status_of(result);
  return check_peer() ? Status::kDone : Status::kFailed;
}

TlsStream::ReadResult TlsStream::read(std::span<std::uint8_t> out) {
  std::size_t size = 0;
  const int result = SSL_read_ex(ssl_.get(), out.data(), out.size(), &size);
  if (result == 1) return {.status = Status::kDone, .size = size};
  return {.status = status_of(result), .size = 0};
}

bool TlsStream::write(std::span<const std::uint8_t> plaintext) {
  while (!plaintext.empty()) {
    std::size_t size = 0;
    if (SSL_write_ex(ssl_.get(), plaintext.data(), plaintext.size(), &size) != 1) {
      failure_.message = openssl_reason();
      return false;
    }
    plaintext = plaintext.subspan(size);
  }
  return true;
}

void TlsStream::close() {
  if (SSL_is_init_finished(ssl_.get())) SSL_shutdown(ssl_.get());
  ERR_clear_error();
}

void TlsStream::output_sent(std::size_t size) {
  output_sent_ += size;
  if (output_sent_ < output_.size()) return;
  output_.clear();
  output_sent_ = 0;
}

std::optional<crypto::NodePublic> TlsStream::meta_key() const {
  const STACK_OF(X509)* chain = SSL_get_peer_cert_chain(ssl_.get());
  for (int i = 0; i < sk_X509_num(chain); ++i) {
    const X509* certificate = sk_X509_value(chain, i);
    if (!is_meta(certificate)) continue;
    const auto hex = common_name(certificate).substr(kMetaPrefix.size());
    const auto key = crypto::NodePublic::parse(fmt::format("nodekey:{}", hex));
    // The serial number is the protocol version; clients only accept one that fits in a byte.
    std::uint64_t version = 0;
    const bool version_known =
        ASN1_INTEGER_get_uint64(&version, X509_get0_serialNumber(certificate)) == 1 &&
        version != 0 && version <= 0xff;
    if (key && version_known) return *key;
  }
  return std::nullopt;
}

std::optional<Sha256> TlsStream::leaf_sha256() const {
  const X509* leaf = SSL_get0_peer_certificate(ssl_.get());
  if (leaf == nullptr) return std::nullopt;
  return sha256_of(leaf);
}

const BIO_METHOD* TlsStream::bio_method() {
  // Made once and kept: OpenSSL wants it to outlive every BIO.
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "detour client");
    BIO_meth_set_read(made, bio_read);
    BIO_meth_set_write(made, bio_write);
    BIO_meth_set_ctrl(made, bio_control);
    return made;
  }();
  return method;
}

int TlsStream::bio_read(BIO* bio, char* out, int size) {
  auto* stream = static_cast<TlsStream*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  if (stream->input_.empty()) {
    BIO_set_retry_read(bio);
    return -1;
  }
  const std::size_t count = std::min(static_cast<std::size_t>(size), stream->input_.size());
  std::memcpy(out, stream->input_.data(), count);
  stream->input_ = stream->input_.subspan(count);
  return static_cast<int>(count);
}

int TlsStream::bio_write(BIO* bio, const char* data, int size) {
  auto* stream = static_cast<TlsStream*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  const auto bytes = as_bytes({data, static_cast<std::size_t>(size)});
  stream->output_.insert(stream->output_.end(), bytes.begin(), bytes.end());
  return size;
}

long TlsStream::bio_control(BIO*, int command, long, void*) {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

TlsStream::Status TlsStream::status_of(int result) {
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      return Status::kNeedsInput;
    case SSL_ERROR_ZERO_RETURN:
      return Status::kClosed;
    default:
      break;
  }
  const bool in_handshake = !SSL_is_init_finished(ssl_.get());
  const unsigned long error = take_openssl_error();
  failure_.message = reason_text(error);
  if (in_handshake) failure_.tls_problem = problem_of_handshake(error);
  return Status::kFailed;
}

bool TlsStream::check_peer() {
  switch (context_.trust().kind) {
    case Trust::Kind::kAuthorities:
      return check_authorities();
    case Trust::Kind::kPin:
      return check_pin();
    case Trust::Kind::kAnyone:
      return true;
  }
  return false;
}

bool TlsStream::check_authorities() {
  const long verdict = SSL_get_verify_result(ssl_.get());
  if (verdict == X509_V_OK && SSL_get0_peer_certificate(ssl_.get()) != nullptr) return true;
  distrust(problem_of_certificate(verdict), fmt::format("the certificate is not trusted: {}",
                                                        X509_verify_cert_error_string(verdict)));
  return false;
}

bool TlsStream::check_pin() {
  const STACK_OF(X509)* chain = SSL_get_peer_cert_chain(ssl_.get());
  int real_certificates = 0;
  for (int i = 0; i < sk_X509_num(chain); ++i) {
    if (!is_meta(sk_X509_value(chain, i))) ++real_certificates;
  }
  if (real_certificates != 1) {
    distrust(TlsProblem::kWrongPin,
             fmt::format("a pin needs exactly one certificate besides the meta certificate, and {} "
                         "came",
                         real_certificates));
    return false;
  }
  if (leaf_sha256() == context_.trust().pin) return true;
  distrust(TlsProblem::kWrongPin, "the certificate is not the pinned one");
  return false;
}

void TlsStream::distrust(TlsProblem problem, std::string message) {
  failure_.tls_problem = problem;
  failure_.message = std::move(message);
  if (const auto digest = leaf_sha256()) failure_.certificate_pin = format_pin(*digest);
}

}  // namespace detour::client
