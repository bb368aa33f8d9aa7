#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/byte_buffer.h"
#include "base/bytes.h"
#include "net/openssl_transport.h"
#include "net/tls_context.h"
#include "support/certificates.h"

namespace detour::net {

using Bytes = std::vector<std::uint8_t>;

/// A TLS client by OpenSSL alone, in memory: what the transport under test talks to.
class TlsPeer {
 public:
  struct Options {
    int version = TLS1_3_VERSION;
    std::string sni = {};
    Bytes alpn = {};
    const char* trusted_only = nullptr;  ///< When set, verifies against nothing, so it refuses.
    const char* ciphers = nullptr;       ///< Of TLS 1.3; null = OpenSSL's own list.
  };

  explicit TlsPeer(const Options& options)
      : context_(SSL_CTX_new(TLS_client_method()), SSL_CTX_free), ssl_(nullptr, SSL_free) {
    SSL_CTX_set_min_proto_version(context_.get(), options.version);
    SSL_CTX_set_max_proto_version(context_.get(), options.version);
    // OpenSSL leaves versions below 1.2 out at its default level.
    if (options.version < TLS1_2_VERSION)
      SSL_CTX_set_cipher_list(context_.get(), "DEFAULT@SECLEVEL=0");
    if (options.ciphers != nullptr) SSL_CTX_set_ciphersuites(context_.get(), options.ciphers);
    SSL_CTX_set_verify(context_.get(),
                       options.trusted_only != nullptr ? SSL_VERIFY_PEER : SSL_VERIFY_NONE,
                       nullptr);
    SSL_CTX_set_session_cache_mode(context_.get(), SSL_SESS_CACHE_CLIENT);
    ssl_.reset(SSL_new(context_.get()));
    BIO* const in = BIO_new(BIO_s_mem());
    BIO* const out = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(in, -1);
    BIO_set_mem_eof_return(out, -1);
    SSL_set_bio(ssl_.get(), in, out);
    SSL_set_connect_state(ssl_.get());
    if (!options.sni.empty())
      SSL_ctrl(ssl_.get(), SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
               std::string(options.sni).data());
    if (!options.alpn.empty())
      SSL_set_alpn_protos(ssl_.get(), options.alpn.data(),
                          static_cast<unsigned>(options.alpn.size()));
  }

  [[nodiscard]] SSL* ssl() const { return ssl_.get(); }

  /// Goes on with the handshake. True when done.
  bool handshake() {
    ERR_clear_error();
    return SSL_do_handshake(ssl_.get()) == 1;
  }
  void give(std::span<const std::uint8_t> ciphertext) {
    if (!ciphertext.empty())
      BIO_write(SSL_get_rbio(ssl_.get()), ciphertext.data(), static_cast<int>(ciphertext.size()));
  }
  /// What it wants to send.
  [[nodiscard]] Bytes take() {
    Bytes bytes(BIO_ctrl_pending(SSL_get_wbio(ssl_.get())));
    if (!bytes.empty())
      BIO_read(SSL_get_wbio(ssl_.get()), bytes.data(), static_cast<int>(bytes.size()));
    return bytes;
  }
  /// Seals into what take() gives.
  void write(std::span<const std::uint8_t> plaintext) {
    std::size_t written = 0;
    SSL_write_ex(ssl_.get(), plaintext.data(), plaintext.size(), &written);
  }
  /// All plaintext that has arrived.
  [[nodiscard]] Bytes read() {
    Bytes all;
    std::uint8_t part[20'000];
    std::size_t size = 0;
    while (SSL_read_ex(ssl_.get(), part, sizeof part, &size) == 1)
      all.insert(all.end(), part, part + size);
    last_error_ = SSL_get_error(ssl_.get(), 0);
    return all;
  }
  /// SSL_ERROR_* that ended the last read().
  [[nodiscard]] int last_error() const { return last_error_; }

 private:
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_;
  std::unique_ptr<SSL, decltype(&SSL_free)> ssl_;
  int last_error_ = 0;
};

/// What the transport serves in these tests: one self-made certificate.
[[nodiscard]] inline const test::TestCertificate& server_certificate() {
  static const test::TestCertificate certificate =
      test::make_certificate({.common_name = "relay.test", .dns_names = {"relay.test"}});
  return certificate;
}

[[nodiscard]] inline std::unique_ptr<TlsContext> make_context(
    std::string required_sni = {}, std::optional<RecordKey::Backend> own_records = {}) {
  auto made = TlsContext::make({.leaf = server_certificate().certificate.get(),
                                .key = server_certificate().key.get(),
                                .chain = {},
                                .own_records = own_records,
                                .required_sni = std::move(required_sni)});
  return made ? std::move(*made) : nullptr;
}

/// A transport as a connection uses it: goes over to the successor after the handshake, and feeds
/// again what was not read.
class UsedTransport final : public Transport {
 public:
  explicit UsedTransport(std::unique_ptr<Transport> transport) : transport_(std::move(transport)) {}
  [[nodiscard]] static std::unique_ptr<UsedTransport> make(const TlsContext& context) {
    return std::make_unique<UsedTransport>(OpenSslTransport::make(context));
  }

  void feed(std::span<const std::uint8_t> input) override {
    input_.insert(input_.end(), input.begin(), input.end());
    fed_ = input_;
    transport_->feed(fed_);
    input_.clear();
  }
  Handshake handshake(ByteBuffer& sink) override {
    const auto made = transport_->handshake(sink);
    if (made == Handshake::kDone) {
      if (auto successor = transport_->successor()) {
        transport_ = std::move(successor);
        switched_ = true;
      }
    }
    return made;
  }
  OpenResult open(std::span<std::uint8_t> out, ByteBuffer& sink) override {
    const auto result = transport_->open(out, sink);
    if (result.status == Opened::kNeedsInput)
      input_.assign(fed_.end() - static_cast<std::ptrdiff_t>(result.unread), fed_.end());
    return result;
  }
  bool seal(std::span<const std::uint8_t> plaintext, ByteBuffer& sink) override {
    return transport_->seal(plaintext, sink);
  }
  void seal_close(ByteBuffer& sink) override { transport_->seal_close(sink); }
  void rest() override { transport_->rest(); }
  [[nodiscard]] std::string failure() const override { return transport_->failure(); }
  [[nodiscard]] Version version() const override { return transport_->version(); }

  [[nodiscard]] bool switched() const { return switched_; }

 private:
  std::unique_ptr<Transport> transport_;
  bool switched_ = false;
  Bytes input_;  ///< Not read yet.
  Bytes fed_;
};

/// Feeds `ciphertext` in pieces of `piece` bytes and goes on with the handshake for each. Gives
/// what the transport answers.
[[nodiscard]] inline Bytes handshake_pieces(Transport& transport,
                                            std::span<const std::uint8_t> ciphertext,
                                            std::size_t piece, Transport::Handshake& status) {
  ByteBuffer sink;
  while (!ciphertext.empty()) {
    const auto part = ciphertext.first(std::min(piece, ciphertext.size()));
    ciphertext = ciphertext.subspan(part.size());
    transport.feed(part);
    status = transport.handshake(sink);
    if (status != Transport::Handshake::kNeedsInput) break;
  }
  return {sink.bytes().begin(), sink.bytes().end()};
}

/// A whole handshake. True when both sides are done.
inline bool connect(TlsPeer& peer, Transport& transport, std::size_t piece = 1 << 20) {
  auto status = Transport::Handshake::kNeedsInput;
  for (int flight = 0; flight < 4; ++flight) {
    const bool peer_done = peer.handshake();
    if (peer_done && status == Transport::Handshake::kDone) return true;
    const Bytes out = peer.take();
    if (out.empty()) return false;
    peer.give(handshake_pieces(transport, out, piece, status));
    if (status == Transport::Handshake::kFailed) return false;
  }
  return false;
}

struct OpenedBytes {
  Bytes plaintext;
  Bytes answer;  ///< What the record layer itself wants to send.
  Transport::Opened status = Transport::Opened::kNeedsInput;
};

/// Feeds `ciphertext` whole and opens all of it, `room` bytes at a time.
[[nodiscard]] inline OpenedBytes open_all(Transport& transport,
                                          std::span<const std::uint8_t> ciphertext,
                                          std::size_t room = 20'000) {
  OpenedBytes opened;
  ByteBuffer sink;
  Bytes out(room);
  // A copy that is destroyed on return: what is not whole has to be kept inside.
  const Bytes lent(ciphertext.begin(), ciphertext.end());
  transport.feed(lent);
  do {
    const auto result = transport.open(out, sink);
    opened.plaintext.insert(opened.plaintext.end(), out.begin(),
                            out.begin() + static_cast<std::ptrdiff_t>(result.size));
    opened.status = result.status;
  } while (opened.status == Transport::Opened::kOutputFull);
  opened.answer.assign(sink.bytes().begin(), sink.bytes().end());
  return opened;
}

}  // namespace detour::net
