#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/clock.h"
#include "client/failure.h"
#include "client/session.h"
#include "net/address.h"
#include "net/fd.h"
#include "net/poller.h"
#include "relay/client.h"
#include "server/link_transport.h"
#include "server/member_timer.h"
#include "server/send_side.h"
#include "server/shared.h"

namespace detour::server {

class MeshConnector;
class Worker;

/// The relay at the other end of a link, understood from config::MeshPeer.
struct MeshTarget {
  std::string name;  ///< As the operator wrote it, for the log: "derp1.example.com:8443".
  std::string host;  ///< Whom the certificate must be for: name or IP without brackets.
  std::uint16_t port = 443;
  std::string dial_host;  ///< Where the TCP connection goes: name or IP without brackets.

  /// Fails with value, what is wrong and what to write.
  [[nodiscard]] static std::expected<MeshTarget, std::string> parse(const config::MeshPeer& peer);

  friend bool operator==(const MeshTarget&, const MeshTarget&) = default;
};

/// One connection to a mesh peer, from connect to close: TLS, login with the mesh key, WatchConns;
/// then it learns who is there and takes the packets for them.
///
/// Belongs to one worker for life; that worker's thread alone calls it, except for `send_side()`,
/// which any worker may use during a turn. Destroyed through Quiescence after close().
class MeshLink final : public relay::Client, public net::EventHandler, private StallWatcher {
 public:
  /// `fd` is a socket whose connect() was begun.
  MeshLink(MeshConnector& connector, Worker& worker, net::UniqueFd fd,
           const net::SocketAddress& address);
  ~MeshLink() override;

  /// Starts to listen for events. False when the kernel refuses.
  [[nodiscard]] bool start();

  void on_event(std::uint32_t events) override;
  /// Another worker found the socket full: looks after the write timeout.
  void watch_write(TimePoint now);
  /// Ends the link without telling the connector, which knows.
  void close();

  [[nodiscard]] SendSide& send_side() { return send_side_; }
  [[nodiscard]] const net::SocketAddress& address() const { return address_; }
  /// Whether the other side tells us of its clients.
  [[nodiscard]] bool is_up() const { return phase_ == Phase::kUp && is_watching_; }

 private:
  enum class Phase : std::uint8_t {
    kConnect,
    kTlsHandshake,
    kLogin,
    kUp,  ///< Logged in and asked to be told of clients.
    kClosed,
  };

  void on_connected();
  /// Reads once. False when nothing more is to be read now.
  [[nodiscard]] bool read_once();
  void continue_handshake(std::span<const std::uint8_t> input);
  void take_input(std::span<const std::uint8_t> input);
  [[nodiscard]] bool take_frames(std::span<const std::uint8_t> plaintext);
  void handle_frame(const client::Frame& frame);
  void on_peer_present(std::span<const std::uint8_t> payload);
  void send_session_output();
  [[nodiscard]] bool found_ourselves(const crypto::NodePublic& relay_key);
  void on_logged_in();
  void on_deadline(TimePoint now);
  void on_write_check(TimePoint now);
  void wait_until_writable(int fd) override;
  void on_blocked(WorkerScratch& scratch) override;
  std::optional<relay::DropSite> drop_site() override { return shared_.drop_site_of(key()); }
  /// Closes the link and says why.
  void fail(client::Failure failure);

  MeshConnector& connector_;
  Worker& worker_;
  Shared& shared_;
  WorkerScratch& scratch_;
  const net::SocketAddress address_;
  Phase phase_ = Phase::kConnect;
  bool is_watching_ = false;            ///< The other side told of a client: it took our mesh key.
  LinkTransport* transport_ = nullptr;  ///< Belongs to send_side_; only used in kTlsHandshake.
  std::optional<client::Session> session_;
  TimePoint login_due_{};
  TimePoint last_received_{};
  MemberTimer<MeshLink, &MeshLink::on_deadline> deadline_{*this};
  MemberTimer<MeshLink, &MeshLink::on_write_check> write_check_{*this};
  SendSide send_side_;
};

}  // namespace detour::server
