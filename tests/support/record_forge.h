#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/check.h"
#include "net/record_key.h"
#include "net/tls13_kdf.h"

namespace detour::test {

/// Seals TLS 1.3 records with AES-128-GCM as a peer would, right or wrong, without the record layer
/// under test.
class RecordForge {
 public:
  using Bytes = std::vector<std::uint8_t>;

  /// `secret` is the peer's traffic secret, of SHA-256's size.
  explicit RecordForge(Bytes secret) : secret_(std::move(secret)) { make_key(); }

  /// A record with the inner plaintext as it is: content, type, padding. Not empty.
  [[nodiscard]] Bytes raw(std::span<const std::uint8_t> inner) {
    Bytes record = {23, 3, 3, 0, 0};
    write_be16(std::span(record).subspan<3, 2>(),
               static_cast<std::uint16_t>(inner.size() + net::kAeadTagSize));
    record.resize(5 + inner.size() + net::kAeadTagSize);
    net::RecordKey::Nonce nonce = iv_;
    for (std::size_t i = 0; i < 8; ++i)
      nonce[4 + i] ^= static_cast<std::uint8_t>(sequence_ >> (56 - 8 * i));
    ++sequence_;
    // seal() adds the last byte by itself.
    DETOUR_CHECK(key_->seal(nonce, std::span(record).first(5), inner.first(inner.size() - 1),
                            inner.back(), record.data() + 5));
    return record;
  }
  [[nodiscard]] Bytes record(std::uint8_t type, Bytes content, std::size_t padding = 0) {
    content.push_back(type);
    content.resize(content.size() + padding, 0);
    return raw(content);
  }
  /// From now on with the next key.
  void update() {
    const auto next = net::tls13::next_secret(
        net::tls13::Hash::kSha256, net::tls13::Secret(std::span<const std::uint8_t>(secret_)));
    secret_.assign(next.bytes().begin(), next.bytes().end());
    make_key();
  }

 private:
  void make_key() {
    Bytes key(16);
    DETOUR_CHECK(net::tls13::expand_label(net::tls13::Hash::kSha256, secret_, "key", {}, key));
    DETOUR_CHECK(net::tls13::expand_label(net::tls13::Hash::kSha256, secret_, "iv", {}, iv_));
    key_ = net::RecordKey::make(key, net::RecordKey::Backend::kEvp);
    DETOUR_CHECK(key_ != nullptr);
    sequence_ = 0;
  }

  Bytes secret_;
  std::unique_ptr<net::RecordKey> key_;
  net::RecordKey::Nonce iv_{};
  std::uint64_t sequence_ = 0;
};

}  // namespace detour::test
