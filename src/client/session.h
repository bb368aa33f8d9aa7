#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "client/failure.h"
#include "client/frame_reader.h"
#include "crypto/box.h"
#include "crypto/keys.h"
#include "derp/handshake.h"

namespace detour::client {

/// An answer to the upgrade request beyond this size is refused.
inline constexpr std::size_t kResponseHeadMax = 16 * 1024;

struct SessionOptions {
  crypto::NodePrivate key;  ///< Who logs in.
  std::string host;         ///< For the Host header: name, and ":port" when it is not 443.
  std::string path = "/derp";
  std::string ideal_node = {};  ///< Sent as Ideal-Node when not empty.
  derp::ClientInfo info = {.mesh_key = std::nullopt,
                           .version = derp::kProtocolVersion,
                           .can_ack_pings = true,
                           .is_prober = false,
                           .app_name = {}};
  /// The relay's key when it is known beforehand (from its meta certificate). With it the session
  /// asks for fast start, which saves a round trip, as official clients do on TLS 1.3.
  std::optional<crypto::NodePublic> relay_key = std::nullopt;
};

/// A client's side of the upgrade and the login, then a cutter of frames. No I/O: plaintext bytes
/// in, bytes to send and frames out (docs/protocol.md, Handshake).
///
/// Owned by one connection, used by one thread at a time.
class Session {
 public:
  explicit Session(SessionOptions options);

  /// What is to be sent now: the request to begin with, ClientInfo later. Empty when nothing is.
  /// Call after the constructor and after each next().
  [[nodiscard]] std::vector<std::uint8_t> take_output();

  /// Takes bytes that arrived from the front of `*bytes`. Gives the next frame once logged in;
  /// nullopt when all bytes are used up, and also at the moment of login, when bytes may be left.
  /// The frame is valid until the next call and as long as the input is. Once it has failed it
  /// stays failed.
  [[nodiscard]] Outcome<std::optional<Frame>> next(std::span<const std::uint8_t>* bytes);

  /// The connection has ended: the reason in words that fit how far the login had come.
  [[nodiscard]] Failure ended() const;

  /// Logged in: ServerInfo came and opened.
  [[nodiscard]] bool is_open() const { return state_ == State::kOpen; }
  [[nodiscard]] const crypto::NodePublic& public_key() const { return public_key_; }
  /// From the meta certificate or the ServerKey frame; zero until known.
  [[nodiscard]] const crypto::NodePublic& relay_key() const { return relay_key_; }
  [[nodiscard]] bool used_fast_start() const { return options_.relay_key.has_value(); }

 private:
  enum class State : std::uint8_t { kResponse, kServerKey, kServerInfo, kOpen, kFailed };

  /// nullopt: more bytes are needed. Otherwise the state has changed.
  [[nodiscard]] Outcome<bool> read_response(std::span<const std::uint8_t>* bytes);
  [[nodiscard]] Outcome<void> handle_login_frame(const Frame& frame);
  [[nodiscard]] Outcome<void> queue_client_info();
  [[nodiscard]] std::unexpected<Failure> failed(Failure failure);

  SessionOptions options_;
  const crypto::NodePublic public_key_;
  crypto::NodePublic relay_key_;
  std::optional<crypto::SharedKey> shared_;
  State state_;
  FrameReader frames_;
  std::string head_;  ///< The answer to the request so far.
  std::vector<std::uint8_t> output_;
  std::optional<Failure> failure_;
};

}  // namespace detour::client
