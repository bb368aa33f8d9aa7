#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/byte_buffer.h"

namespace detour::net {

/// What a connection's bytes go through between socket and plaintext: TLS records, or nothing.
///
/// No I/O: the caller moves ciphertext. Not thread-safe; the connection's lock guards every call.
/// Further record layers (kTLS) would be further implementations.
class Transport {
 public:
  enum class Handshake : std::uint8_t {
    kDone,
    kNeedsInput,
    kFailed,  ///< `failure()` says why; an alert may be in the sink.
  };
  enum class Opened : std::uint8_t {
    kNeedsInput,  ///< All input was used; more bytes have to come.
    kOutputFull,  ///< `out` cannot take the next record; call again with more room.
    kClosed,      ///< The peer ended its side in order (close_notify).
    kFailed,      ///< `failure()` says why.
  };
  struct OpenResult {
    std::size_t size;  ///< Bytes of plaintext written to the front of `out`.
    Opened status;
    /// With kNeedsInput: so many bytes at the end of what was fed are a part of a record. They have
    /// to be fed again, in front of what comes next.
    std::size_t unread = 0;
  };

  /// With at least so much room open() gets on: the plaintext of the largest record, padded.
  static constexpr std::size_t kRecordRoom = 16384 + 256;

  virtual ~Transport() = default;

  /// Gives bytes that came from the socket. They must stay valid until the handshake or open() asks
  /// for more input.
  virtual void feed(std::span<const std::uint8_t> input) = 0;

  /// Goes on with the handshake; bytes to send are appended to `sink`.
  [[nodiscard]] virtual Handshake handshake(ByteBuffer& sink) = 0;

  /// After the handshake: a leaner transport that goes on from here, with the input that is left;
  /// this one is spent then. Null when there is none.
  [[nodiscard]] virtual std::unique_ptr<Transport> successor() { return nullptr; }

  /// Opens what was fed, into `out`. Answers of the record layer itself are appended to `sink`.
  [[nodiscard]] virtual OpenResult open(std::span<std::uint8_t> out, ByteBuffer& sink) = 0;

  /// Appends `plaintext`, protected, to `sink`: records of up to 16 KiB. False on failure.
  [[nodiscard]] virtual bool seal(std::span<const std::uint8_t> plaintext, ByteBuffer& sink) = 0;

  /// Appends what announces the end of our side (close_notify).
  virtual void seal_close(ByteBuffer& sink) = 0;

  /// The connection was quiet for a while: lets go of what can be made again.
  virtual void rest() {}

  /// Why the handshake or open() failed, for the log: "the client refuses our certificate: ...".
  [[nodiscard]] virtual std::string failure() const = 0;

  enum class Version : std::uint8_t { kTls10, kTls11, kTls12, kTls13, kUnknown };
  /// After the handshake.
  [[nodiscard]] virtual Version version() const = 0;
};

}  // namespace detour::net
