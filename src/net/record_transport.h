#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "net/record_key.h"
#include "net/tls13_kdf.h"
#include "net/transport.h"

namespace detour::net {

/// The record layer of TLS 1.3 with AES-GCM (RFC 8446 section 5), for a connection whose handshake
/// is over: the server's side, or the client's when the server sends no tickets.
///
/// Takes over from OpenSSL with the traffic secrets of the handshake. Beside data it understands
/// what may still come: KeyUpdate both ways, alerts, close_notify, padding, empty records; anything
/// else ends the connection with the alert that the RFC names. Costs a few hundred bytes while
/// idle, no OpenSSL object, and no allocation per record.
class RecordTransport final : public Transport {
 public:
  struct Options {
    tls13::Hash hash = tls13::Hash::kSha256;
    std::size_t key_size = 16;  ///< 16 for AES-128, 32 for AES-256.
    tls13::Secret read;         ///< The peer's traffic secret.
    tls13::Secret write;        ///< Ours.
    RecordKey::Backend backend = RecordKey::Backend::kEvp;
    /// Our own KeyUpdate goes out before this many records under one key (RFC 8446 section 5.5:
    /// 2^24.5 at most for AES-GCM).
    std::uint64_t records_per_key_max = kRecordsPerKeyMax;
  };
  static constexpr std::uint64_t kRecordsPerKeyMax = std::uint64_t{1} << 24;
  /// Records in a row that carry no data; a peer that sends more only costs us time.
  static constexpr std::uint32_t kIdleRecordsMax = 32;

  /// Null when the backend does not take the keys or memory is out.
  [[nodiscard]] static std::unique_ptr<RecordTransport> make(Options options);

  void feed(std::span<const std::uint8_t> input) override { input_ = input; }
  /// There is none left to do.
  Handshake handshake(ByteBuffer& /*sink*/) override { return Handshake::kDone; }
  OpenResult open(std::span<std::uint8_t> out, ByteBuffer& sink) override;
  bool seal(std::span<const std::uint8_t> plaintext, ByteBuffer& sink) override;
  void seal_close(ByteBuffer& sink) override;
  void rest() override;
  [[nodiscard]] std::string failure() const override;
  [[nodiscard]] Version version() const override { return Version::kTls13; }

 private:
  /// Numbers of RFC 8446 section 6.
  enum class Alert : std::uint8_t {
    kCloseNotify = 0,
    kUnexpectedMessage = 10,
    kBadRecordMac = 20,
    kRecordOverflow = 22,
    kIllegalParameter = 47,
    kDecodeError = 50,
    kUserCanceled = 90,
  };
  struct Direction {
    tls13::Secret secret;
    std::unique_ptr<RecordKey> key;
    RecordKey::Nonce iv{};
    std::uint64_t sequence = 0;
  };
  /// How one record was taken.
  enum class Taken : std::uint8_t { kData, kNothing, kClosed, kFailed };

  explicit RecordTransport(Options options);

  [[nodiscard]] bool derive_keys(Direction& direction) const;
  [[nodiscard]] bool advance(Direction& direction);
  [[nodiscard]] static RecordKey::Nonce nonce(const Direction& direction);

  [[nodiscard]] Taken check_header(std::uint8_t type, std::size_t sealed_size, ByteBuffer& sink);
  /// Opens the whole record that input_ begins with to `place`, and takes what it holds.
  [[nodiscard]] Taken open_record(std::size_t sealed_size, std::uint8_t* place,
                                  std::size_t* content_size, ByteBuffer& sink);
  [[nodiscard]] Taken take(std::uint8_t type, std::span<const std::uint8_t> content,
                           ByteBuffer& sink);
  [[nodiscard]] Taken take_handshake(std::span<const std::uint8_t> content, ByteBuffer& sink);
  [[nodiscard]] Taken take_alert(std::span<const std::uint8_t> content, ByteBuffer& sink);
  [[nodiscard]] Taken count_idle(ByteBuffer& sink);
  [[nodiscard]] bool update_write_key(ByteBuffer& sink);
  [[nodiscard]] bool seal_record(std::uint8_t type, std::span<const std::uint8_t> content,
                                 ByteBuffer& sink);
  void seal_alert(std::uint8_t level, Alert alert, ByteBuffer& sink);
  Taken fail(Alert alert, const char* reason, ByteBuffer& sink);

  const tls13::Hash hash_;
  const std::uint8_t key_size_;
  const RecordKey::Backend backend_;
  bool closed_ = false;  ///< We sent close_notify or a fatal alert: nothing may follow.
  std::uint8_t handshake_size_ = 0;
  std::uint8_t idle_records_ = 0;
  std::uint8_t peer_alert_ = 0;
  /// A KeyUpdate of which the rest comes in the next record.
  std::array<std::uint8_t, 5> handshake_{};
  const std::uint64_t records_per_key_max_;
  const char* failure_ = nullptr;
  std::span<const std::uint8_t> input_;
  Direction read_;
  Direction write_;
};

}  // namespace detour::net
