#pragma once

#include <string>

#include "client/tls_stream.h"
#include "net/transport.h"

namespace detour::server {

/// The client side of TLS for a link to a mesh peer.
class LinkTransport final : public net::Transport {
 public:
  /// `context` must outlive the transport. `host` is who the certificate must be for;
  /// `server_name` is sent as SNI unless it is empty.
  LinkTransport(const client::TlsContext& context, const std::string& host,
                const std::string& server_name)
      : stream_(context, host, server_name) {}

  void feed(std::span<const std::uint8_t> input) override { stream_.set_input(input); }
  Handshake handshake(ByteBuffer& sink) override;
  OpenResult open(std::span<std::uint8_t> out, ByteBuffer& sink) override;
  bool seal(std::span<const std::uint8_t> plaintext, ByteBuffer& sink) override;
  void seal_close(ByteBuffer& sink) override;
  [[nodiscard]] std::string failure() const override { return stream_.failure().text(); }
  [[nodiscard]] Version version() const override;

  /// For what the handshake found out; only until the link is up.
  [[nodiscard]] const client::TlsStream& stream() const { return stream_; }

 private:
  void drain(ByteBuffer& sink);

  client::TlsStream stream_;
};

}  // namespace detour::server
