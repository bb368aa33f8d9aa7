#pragma once

#include <openssl/ssl.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "client/failure.h"
#include "crypto/keys.h"

namespace detour::client {

inline constexpr std::size_t kSha256Size = 32;
using Sha256 = std::array<std::uint8_t, kSha256Size>;

/// Reads a pin: `sha256-raw:` and 64 hex digits, the SHA-256 of the relay's leaf certificate (DER).
[[nodiscard]] std::optional<Sha256> parse_pin(std::string_view text);
[[nodiscard]] std::string format_pin(const Sha256& digest);

/// Whom a client believes.
struct Trust {
  enum class Kind : std::uint8_t {
    kAuthorities,  ///< A chain to a known authority, and the name must be covered.
    kPin,          ///< Exactly one certificate besides the meta certificate, of this SHA-256.
    kAnyone,       ///< No check at all: load generators and throw-away tests.
  };
  Kind kind = Kind::kAuthorities;
  Sha256 pin{};
  std::string authorities_file = {};  ///< PEM; empty means those of the system.
};

enum class TlsVersions : std::uint8_t { kAny, kOnly12, kOnly13 };

struct TlsSettings {
  Trust trust;
  TlsVersions versions = TlsVersions::kAny;
  /// AES-128-GCM only, so that two servers compared do the same work.
  bool only_aes128_gcm = false;
  /// Keep record buffers between reads: faster, and 32 KiB more per connection.
  bool keep_buffers = false;
};

/// Settings shared by many streams. Immutable once made; usable from any thread.
class TlsContext {
 public:
  [[nodiscard]] static Outcome<TlsContext> create(TlsSettings settings);

  [[nodiscard]] SSL_CTX* native() const { return context_.get(); }
  [[nodiscard]] const Trust& trust() const { return settings_.trust; }

 private:
  struct Free {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  };
  TlsContext() = default;
  std::unique_ptr<SSL_CTX, Free> context_;
  TlsSettings settings_;
};

/// A TLS client without a socket: ciphertext in and out of memory, by OpenSSL.
///
/// Owned by one connection, used by one thread at a time, stays where it was made. Output that the
/// owner has not sent yet is kept here and grows with each write().
class TlsStream {
 public:
  enum class Status : std::uint8_t {
    kDone,        ///< The handshake is over, or bytes were read.
    kNeedsInput,  ///< All input is used up.
    kClosed,      ///< The other side ended the TLS connection properly.
    kFailed,      ///< See failure().
  };

  /// `context` must outlive the stream. `host` is the name or address that authorities must vouch
  /// for. `server_name` is sent as SNI; empty sends none.
  TlsStream(const TlsContext& context, const std::string& host, const std::string& server_name);
  ~TlsStream();
  TlsStream(const TlsStream&) = delete;
  TlsStream& operator=(const TlsStream&) = delete;

  /// The ciphertext to work on. It must stay valid until a call gives kNeedsInput.
  void set_input(std::span<const std::uint8_t> ciphertext) { input_ = ciphertext; }

  /// Goes on with the handshake; sends output, too. The peer is checked against Trust at its end.
  [[nodiscard]] Status handshake();

  struct ReadResult {
    Status status;
    std::size_t size;
  };
  /// Opens up to one record into `out`. Call until it gives kNeedsInput.
  [[nodiscard]] ReadResult read(std::span<std::uint8_t> out);
  /// Seals all of `plaintext`, in records of up to 16 KiB. False: see failure().
  [[nodiscard]] bool write(std::span<const std::uint8_t> plaintext);
  /// Adds a close_notify to the output.
  void close();

  /// Ciphertext to send; valid until the next call of anything else.
  [[nodiscard]] std::span<const std::uint8_t> output() const {
    return std::span(output_).subspan(output_sent_);
  }
  /// The first `size` bytes of output() were sent.
  void output_sent(std::size_t size);

  [[nodiscard]] bool is_tls13() const { return SSL_version(ssl_.get()) == TLS1_3_VERSION; }
  [[nodiscard]] std::string_view version_name() const { return SSL_get_version(ssl_.get()); }
  [[nodiscard]] std::string_view cipher_name() const { return SSL_get_cipher_name(ssl_.get()); }
  /// The relay's key out of its meta certificate, if it presented a usable one.
  [[nodiscard]] std::optional<crypto::NodePublic> meta_key() const;
  /// SHA-256 of the leaf certificate: what a pin is compared with.
  [[nodiscard]] std::optional<Sha256> leaf_sha256() const;
  [[nodiscard]] const Failure& failure() const { return failure_; }

 private:
  struct Free {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };
  static const BIO_METHOD* bio_method();
  static int bio_read(BIO* bio, char* out, int size);
  static int bio_write(BIO* bio, const char* data, int size);
  static long bio_control(BIO* bio, int command, long number, void* pointer);

  [[nodiscard]] Status status_of(int result);
  /// Whether the certificates that came are the ones Trust asks for; sets failure_ otherwise.
  [[nodiscard]] bool check_peer();
  [[nodiscard]] bool check_authorities();
  [[nodiscard]] bool check_pin();
  void distrust(TlsProblem problem, std::string message);

  const TlsContext& context_;
  std::unique_ptr<SSL, Free> ssl_;
  std::span<const std::uint8_t> input_;
  std::vector<std::uint8_t> output_;
  std::size_t output_sent_ = 0;
  Failure failure_{.layer = Layer::kTls, .message = "TLS failed"};
};

}  // namespace detour::client
