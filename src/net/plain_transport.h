#pragma once

#include "net/transport.h"

namespace detour::net {

/// No protection at all: for the plain HTTP port and for relays behind plain HTTP.
class PlainTransport final : public Transport {
 public:
  void feed(std::span<const std::uint8_t> input) override { input_ = input; }
  Handshake handshake(ByteBuffer& sink) override;
  OpenResult open(std::span<std::uint8_t> out, ByteBuffer& sink) override;
  bool seal(std::span<const std::uint8_t> plaintext, ByteBuffer& sink) override;
  void seal_close(ByteBuffer& sink) override;
  [[nodiscard]] std::string failure() const override { return {}; }
  [[nodiscard]] Version version() const override { return Version::kUnknown; }

 private:
  std::span<const std::uint8_t> input_;
};

}  // namespace detour::net
