#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "client/failure.h"
#include "client/session.h"
#include "client/tls_stream.h"
#include "crypto/keys.h"
#include "derp/frame.h"
#include "net/fd.h"

namespace detour::client {

struct DialOptions {
  std::string host = {};  ///< Name, or IP address without brackets.
  std::uint16_t port = 443;
  /// Where to connect instead of looking `host` up: name or IP literal; empty: `host`.
  std::string address = {};
  /// TLS, unless the relay stands behind something that ends TLS for it.
  bool use_tls = true;
  TlsSettings tls = {};
  /// SNI. nullopt: `host` when it is a name, none when it is an address. Empty: none.
  std::optional<std::string> server_name = std::nullopt;
  crypto::NodePrivate key = {};  ///< Who logs in.
  std::string path = "/derp";
  std::string ideal_node = {};
  derp::ClientInfo info = SessionOptions{}.info;
  bool fast_start = true;                       ///< Where the relay offers it.
  Duration timeout = std::chrono::seconds(10);  ///< For everything up to ServerInfo.
  int receive_buffer = 0;  ///< SO_RCVBUF, for clients that are meant to be slow; 0 = the kernel's.
};

/// How long each step of dial() took.
struct DialTimes {
  Duration tcp{};
  Duration tls{};
  Duration login{};
};

/// What dial() found out about the relay.
struct RelayInfo {
  crypto::NodePublic key;
  std::string address;                     ///< "203.0.113.7:443".
  std::string tls_version = {};            ///< "TLSv1.3"; empty without TLS.
  std::string cipher = {};                 ///< "TLS_AES_128_GCM_SHA256".
  std::optional<Sha256> leaf_sha256 = {};  ///< What a pin must say.
  bool has_meta_certificate = false;
  bool used_fast_start = false;
  DialTimes times = {};
};

/// A packet that came through the relay.
struct Packet {
  crypto::NodePublic source;
  std::vector<std::uint8_t> bytes;
};

/// One DERP client on a blocking interface with deadlines: for our tools and tests. The sans-I/O
/// parts below it are Session and TlsStream.
///
/// Owned by its user; used by one thread at a time.
class Client {
 public:
  /// Connects, does TLS, upgrades and logs in.
  [[nodiscard]] static Outcome<std::unique_ptr<Client>> dial(const DialOptions& options);
  /// Closes as close() does.
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// Sends one packet, of at most derp::kPacketSizeMax bytes.
  [[nodiscard]] Outcome<void> send(const crypto::NodePublic& destination,
                                   std::span<const std::uint8_t> packet,
                                   Duration timeout = std::chrono::seconds(10));
  /// Sends bytes as they are: whole frames of any type, or garbage.
  [[nodiscard]] Outcome<void> send_raw(std::span<const std::uint8_t> bytes,
                                       Duration timeout = std::chrono::seconds(10));

  /// The next frame of any type, valid until the next call; nullopt when none came in time.
  [[nodiscard]] Outcome<std::optional<Frame>> receive(Duration timeout);
  /// The next packet; other frames are passed over. nullopt when none came in time.
  [[nodiscard]] Outcome<std::optional<Packet>> receive_packet(Duration timeout);
  /// Asks the relay for a Pong and gives the time until it came. Packets that come in between are
  /// kept for receive_packet().
  [[nodiscard]] Outcome<Duration> ping(Duration timeout);

  /// Leaves as clients do: close_notify and FIN. Sending and receiving then fail.
  void close();
  /// Leaves with a RST, as a client whose machine goes away does at best.
  void abort();

  [[nodiscard]] const crypto::NodePublic& public_key() const { return session_->public_key(); }
  [[nodiscard]] const RelayInfo& relay() const { return relay_; }
  /// The socket, for tests that set options on it. The client goes on owning it.
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  Client() = default;
  [[nodiscard]] Outcome<void> connect(const DialOptions& options, TimePoint deadline);
  [[nodiscard]] Outcome<void> do_tls(const DialOptions& options, TimePoint deadline);
  [[nodiscard]] Outcome<void> log_in(const DialOptions& options, TimePoint deadline);

  [[nodiscard]] Outcome<std::optional<Frame>> next_frame(TimePoint deadline);
  [[nodiscard]] Outcome<void> send_all(std::span<const std::uint8_t> plaintext, TimePoint deadline);
  [[nodiscard]] Outcome<void> flush_tls(TimePoint deadline);
  /// Sends from the front of `*bytes` and leaves there what could not be sent.
  [[nodiscard]] Outcome<void> write_socket(std::span<const std::uint8_t>* bytes,
                                           TimePoint deadline);
  /// Reads what is there into `received_`. False when `deadline` came first.
  [[nodiscard]] Outcome<bool> read_socket(TimePoint deadline);
  /// More plaintext into `unread_`. False when `deadline` came first.
  [[nodiscard]] Outcome<bool> read_plaintext(TimePoint deadline);
  /// The connection has ended, seen from the layer that is at work.
  [[nodiscard]] Failure ended() const;

  net::UniqueFd fd_;
  std::optional<TlsContext> tls_context_;
  std::optional<TlsStream> tls_;
  std::optional<Session> session_;
  RelayInfo relay_;
  std::vector<std::uint8_t> received_;    ///< Off the socket.
  std::vector<std::uint8_t> plaintext_;   ///< Out of TLS.
  std::span<const std::uint8_t> unread_;  ///< The part of either that the session has not seen.
  std::deque<Packet> early_packets_;      ///< Came while ping() waited.
};

}  // namespace detour::client
