#include "net/record_transport.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"

namespace detour::net {

namespace {

// A record: type (1 byte), legacy version (2), size of what follows (u16), then the ciphertext of
// content, type and padding, and the tag (RFC 8446 section 5.2).
constexpr std::size_t kHeaderSize = 5;
constexpr std::size_t kContentSizeMax = 16384;
constexpr std::size_t kSealedSizeMax = kContentSizeMax + 256;
constexpr std::size_t kSealedSizeMin = 1 + kAeadTagSize;

constexpr std::uint8_t kTypeAlert = 21;
constexpr std::uint8_t kTypeHandshake = 22;
constexpr std::uint8_t kTypeData = 23;
constexpr std::uint8_t kWarning = 1;
constexpr std::uint8_t kFatal = 2;

// KeyUpdate: type, size (u24), whether we shall update too (RFC 8446 section 4.6.3).
constexpr std::uint8_t kKeyUpdate = 24;
constexpr std::size_t kKeyUpdateSize = 5;
constexpr std::array<std::uint8_t, 4> kKeyUpdateHead = {kKeyUpdate, 0, 0, 1};
constexpr std::uint8_t kUpdateNotRequested = 0;
constexpr std::uint8_t kUpdateRequested = 1;

/// The content without its padding: the last byte that is not zero is the type. Empty when there is
/// none.
std::span<const std::uint8_t> without_padding(std::span<const std::uint8_t> opened) {
  while (!opened.empty() && opened.back() == 0) opened = opened.first(opened.size() - 1);
  return opened;
}

}  // namespace

std::unique_ptr<RecordTransport> RecordTransport::make(Options options) {
  std::unique_ptr<RecordTransport> transport(new RecordTransport(std::move(options)));
  if (!transport->derive_keys(transport->read_) || !transport->derive_keys(transport->write_))
    return nullptr;
  return transport;
}

RecordTransport::RecordTransport(Options options)
    : hash_(options.hash),
      key_size_(static_cast<std::uint8_t>(options.key_size)),
      backend_(options.backend),
      records_per_key_max_(options.records_per_key_max) {
  DETOUR_CHECK(options.key_size == 16 || options.key_size == 32);
  DETOUR_CHECK(options.records_per_key_max >= 2);
  read_.secret = std::move(options.read);
  write_.secret = std::move(options.write);
}

// --- Keys

bool RecordTransport::derive_keys(Direction& direction) const {
  std::array<std::uint8_t, 32> bytes;
  const std::span key(bytes.data(), key_size_);
  const auto secret = direction.secret.bytes();
  const bool derived = tls13::expand_label(hash_, secret, "key", {}, key) &&
                       tls13::expand_label(hash_, secret, "iv", {}, direction.iv);
  if (derived) direction.key = RecordKey::make(key, backend_);
  OPENSSL_cleanse(bytes.data(), bytes.size());
  direction.sequence = 0;
  return derived && direction.key != nullptr;
}

bool RecordTransport::advance(Direction& direction) {
  direction.secret = tls13::next_secret(hash_, direction.secret);
  return derive_keys(direction);
}

RecordKey::Nonce RecordTransport::nonce(const Direction& direction) {
  RecordKey::Nonce nonce = direction.iv;
  for (std::size_t i = 0; i < 8; ++i)
    nonce[4 + i] ^= static_cast<std::uint8_t>(direction.sequence >> (56 - 8 * i));
  return nonce;
}

void RecordTransport::rest() {
  read_.key->rest();
  write_.key->rest();
}

// --- Opening

Transport::OpenResult RecordTransport::open(std::span<std::uint8_t> out, ByteBuffer& sink) {
  std::size_t size = 0;
  const auto result = [&](Opened status) { return OpenResult{.size = size, .status = status}; };
  if (failure_ != nullptr) return result(Opened::kFailed);
  while (input_.size() >= kHeaderSize) {
    const auto header = input_.first<kHeaderSize>();
    const std::size_t sealed_size = read_be16(header.subspan<3, 2>());
    if (check_header(header[0], sealed_size, sink) == Taken::kFailed)
      return result(Opened::kFailed);
    if (input_.size() - kHeaderSize < sealed_size) break;
    if (out.size() - size < sealed_size - kAeadTagSize) return result(Opened::kOutputFull);

    std::size_t content_size = 0;
    switch (open_record(sealed_size, out.data() + size, &content_size, sink)) {
      case Taken::kData:
        size += content_size;
        break;
      case Taken::kNothing:
        break;
      case Taken::kClosed:
        return result(Opened::kClosed);
      case Taken::kFailed:
        return result(Opened::kFailed);
    }
  }
  // The rest will be fed again.
  return {.size = size,
          .status = Opened::kNeedsInput,
          .unread = std::exchange(input_, std::span<const std::uint8_t>()).size()};
}

RecordTransport::Taken RecordTransport::check_header(std::uint8_t type, std::size_t sealed_size,
                                                     ByteBuffer& sink) {
  if (type != kTypeData)
    return fail(Alert::kUnexpectedMessage, "a record that is not encrypted", sink);
  if (sealed_size > kSealedSizeMax)
    return fail(Alert::kRecordOverflow, "a record that is too long", sink);
  if (sealed_size < kSealedSizeMin)
    return fail(Alert::kBadRecordMac, "a record that is too short", sink);
  return Taken::kNothing;
}

RecordTransport::Taken RecordTransport::open_record(std::size_t sealed_size, std::uint8_t* place,
                                                    std::size_t* content_size, ByteBuffer& sink) {
  const auto header = input_.first<kHeaderSize>();
  const auto sealed = input_.subspan(kHeaderSize, sealed_size);
  if (!read_.key->open(nonce(read_), header, sealed, place))
    return fail(Alert::kBadRecordMac, "a record that was not sealed with the agreed key", sink);
  ++read_.sequence;
  input_ = input_.subspan(kHeaderSize + sealed_size);

  if (sealed_size - kAeadTagSize > kContentSizeMax + 1)
    return fail(Alert::kRecordOverflow, "a record that is too long", sink);
  const auto opened = without_padding({place, sealed_size - kAeadTagSize});
  if (opened.empty()) return fail(Alert::kUnexpectedMessage, "a record without a type", sink);
  const auto content = opened.first(opened.size() - 1);
  *content_size = content.size();
  return take(opened.back(), content, sink);
}

RecordTransport::Taken RecordTransport::take(std::uint8_t type,
                                             std::span<const std::uint8_t> content,
                                             ByteBuffer& sink) {
  if (handshake_size_ != 0 && type != kTypeHandshake)
    return fail(Alert::kUnexpectedMessage, "a record in the middle of a handshake message", sink);
  switch (type) {
    case kTypeData:
      if (content.empty()) return count_idle(sink);
      idle_records_ = 0;
      return Taken::kData;
    case kTypeHandshake:
      return take_handshake(content, sink);
    case kTypeAlert:
      return take_alert(content, sink);
    default:
      return fail(Alert::kUnexpectedMessage, "a record of an unknown type", sink);
  }
}

RecordTransport::Taken RecordTransport::take_handshake(std::span<const std::uint8_t> content,
                                                       ByteBuffer& sink) {
  if (content.empty())
    return fail(Alert::kUnexpectedMessage, "an empty piece of a handshake message", sink);
  // The keys change behind a KeyUpdate, so nothing may follow it in the record.
  if (content.size() > kKeyUpdateSize - handshake_size_)
    return fail(Alert::kUnexpectedMessage, "a handshake message other than KeyUpdate", sink);
  std::ranges::copy(content, handshake_.begin() + handshake_size_);
  handshake_size_ = static_cast<std::uint8_t>(handshake_size_ + content.size());
  const std::size_t head_size = std::min<std::size_t>(handshake_size_, kKeyUpdateHead.size());
  if (!std::equal(handshake_.begin(), handshake_.begin() + static_cast<std::ptrdiff_t>(head_size),
                  kKeyUpdateHead.begin()))
    return fail(Alert::kUnexpectedMessage, "a handshake message other than KeyUpdate", sink);
  if (handshake_size_ < kKeyUpdateSize) return count_idle(sink);

  handshake_size_ = 0;
  const std::uint8_t request = handshake_.back();
  if (request != kUpdateNotRequested && request != kUpdateRequested)
    return fail(Alert::kIllegalParameter, "a KeyUpdate that asks for something unknown", sink);
  if (!advance(read_)) return fail(Alert::kDecodeError, "no memory for new keys", sink);
  if (request == kUpdateRequested && !closed_ && !update_write_key(sink))
    return fail(Alert::kDecodeError, "no memory for new keys", sink);
  return count_idle(sink);
}

RecordTransport::Taken RecordTransport::take_alert(std::span<const std::uint8_t> content,
                                                   ByteBuffer& sink) {
  if (content.size() != 2) return fail(Alert::kDecodeError, "an alert of the wrong size", sink);
  const auto alert = Alert{content[1]};
  if (alert == Alert::kCloseNotify) return Taken::kClosed;
  if (alert == Alert::kUserCanceled) return count_idle(sink);
  // All others are fatal whatever level they claim, and are not answered.
  peer_alert_ = content[1];
  failure_ = "an alert";
  closed_ = true;
  return Taken::kFailed;
}

RecordTransport::Taken RecordTransport::count_idle(ByteBuffer& sink) {
  if (++idle_records_ <= kIdleRecordsMax) return Taken::kNothing;
  return fail(Alert::kUnexpectedMessage, "too many records in a row without data", sink);
}

// --- Sealing

bool RecordTransport::seal(std::span<const std::uint8_t> plaintext, ByteBuffer& sink) {
  if (closed_) return plaintext.empty();
  while (!plaintext.empty()) {
    const auto content = plaintext.first(std::min(plaintext.size(), kContentSizeMax));
    if (!seal_record(kTypeData, content, sink)) return false;
    plaintext = plaintext.subspan(content.size());
    // One record of the old key is left for the KeyUpdate itself.
    if (write_.sequence >= records_per_key_max_ - 1 && !update_write_key(sink)) return false;
  }
  return true;
}

bool RecordTransport::seal_record(std::uint8_t type, std::span<const std::uint8_t> content,
                                  ByteBuffer& sink) {
  const std::size_t sealed_size = content.size() + 1 + kAeadTagSize;
  std::uint8_t* const record = sink.extend(kHeaderSize + sealed_size);
  record[0] = kTypeData;
  record[1] = 3;
  record[2] = 3;
  record[3] = static_cast<std::uint8_t>(sealed_size >> 8);
  record[4] = static_cast<std::uint8_t>(sealed_size & 0xff);
  const auto number = nonce(write_);
  ++write_.sequence;
  return write_.key->seal(number, {record, kHeaderSize}, content, type, record + kHeaderSize);
}

bool RecordTransport::update_write_key(ByteBuffer& sink) {
  std::array<std::uint8_t, kKeyUpdateSize> message{};
  std::ranges::copy(kKeyUpdateHead, message.begin());
  message.back() = kUpdateNotRequested;
  return seal_record(kTypeHandshake, message, sink) && advance(write_);
}

void RecordTransport::seal_close(ByteBuffer& sink) {
  seal_alert(kWarning, Alert::kCloseNotify, sink);
}

void RecordTransport::seal_alert(std::uint8_t level, Alert alert, ByteBuffer& sink) {
  if (std::exchange(closed_, true)) return;
  const std::array<std::uint8_t, 2> content = {level, std::to_underlying(alert)};
  static_cast<void>(seal_record(kTypeAlert, content, sink));
}

RecordTransport::Taken RecordTransport::fail(Alert alert, const char* reason, ByteBuffer& sink) {
  failure_ = reason;
  seal_alert(kFatal, alert, sink);
  return Taken::kFailed;
}

std::string RecordTransport::failure() const {
  if (failure_ == nullptr) return {};
  if (peer_alert_ != 0)
    return fmt::format("the peer sent the alert \"{}\"", SSL_alert_desc_string_long(peer_alert_));
  return fmt::format("the peer sent {}", failure_);
}

}  // namespace detour::net
