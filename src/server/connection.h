#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "admin/status.h"
#include "base/clock.h"
#include "crypto/box.h"
#include "http/body.h"
#include "http/message.h"
#include "net/address.h"
#include "net/fd.h"
#include "net/poller.h"
#include "net/timer_wheel.h"
#include "relay/client.h"
#include "relay/frame_splitter.h"
#include "server/connect_tunnel.h"
#include "server/http_service.h"
#include "server/member_timer.h"
#include "server/send_side.h"
#include "server/shared.h"
#include "server/websocket_transport.h"

namespace detour::server {

class Worker;

/// One TCP connection from accept to close: TLS, HTTP, login, relaying.
///
/// Belongs to one worker for life; that worker's thread alone calls it, except for `send_side()`,
/// which any worker may use during a turn. Destroyed through Quiescence after close().
class Connection final : public relay::Client,
                         public net::EventHandler,
                         private StallWatcher,
                         private ConnectTunnel::Client {
 public:
  Connection(Worker& worker, net::UniqueFd fd, net::SocketAddress peer, ListenerKind listener,
             ConnectionLimits::Slot slot, Duration keep_alive_period);
  ~Connection() override;

  /// Arms the handshake deadline and starts to listen for events. False when the kernel refuses.
  [[nodiscard]] bool start();

  void on_event(std::uint32_t events) override;
  /// Reads once and handles what came. Called for events, and again while the socket holds more.
  void read_turn();

  /// Why a connection ends: what is counted and logged.
  enum class CloseReason : std::uint8_t {
    kPeerClosed,
    kSocketError,
    kRefused,
    kTimeout,
    kWriteTimeout,
    kMeshPeer,  ///< A mesh peer asked for it (ClosePeer).
    kMeshKey,   ///< The mesh key that it logged in with is not valid any more.
    kOperator,  ///< `detour kick`.
    kShutdown,
  };
  /// Ends the connection and hands it to the worker for destruction. Safe to call twice.
  void close(CloseReason reason);

  /// How this client is doing; nothing while it is not logged in. Owner only.
  [[nodiscard]] std::optional<admin::ClientStatus> status();

  /// Another worker found the socket full: looks after the write timeout.
  void watch_write(TimePoint now);

  /// Limits how fast this client may send, beginning with a full bucket; nothing for others than
  /// logged-in clients.
  void set_receive_rate(relay::ReceiveRate rate);
  /// As WatchConns asks: from now on this mesh peer is told who comes and leaves. Owner only.
  void watch();
  /// Sends some of the events that wait for this watcher; queues for the next turn when there are
  /// more, and waits for its socket when that is full. Owner only.
  void send_watch_events();
  /// Events wait for this watcher. Any worker, during a turn.
  void wake_watcher();
  /// As ClosePeer asks. Any worker, during a turn.
  void post_close();

  /// A piece of the answer that this connection waits for.
  void take_answer(std::string_view bytes, bool is_last);
  /// Admission has decided about this login.
  void take_verdict(const admission::Verdict& verdict);
  /// Has admission check this client, if it is one that came unchecked.
  void check_client();

  /// At shutdown: sends what waits, then announces the end. The connection closes when its peer
  /// does.
  void begin_shutdown();

  [[nodiscard]] bool is_logged_in() const { return phase_ == Phase::kRelay; }
  [[nodiscard]] bool is_closed() const { return phase_ == Phase::kClosed; }
  /// Not logged in yet: its turns are rationed, because they cost as much as dozens of packets.
  [[nodiscard]] bool is_in_setup() const { return phase_ < Phase::kRelay; }
  /// In setup, and has had its first turn: the dear part of its handshake is done.
  [[nodiscard]] bool has_begun_setup() const { return setup_ && setup_->saw_input; }
  [[nodiscard]] const net::SocketAddress& peer() const { return peer_; }
  [[nodiscard]] SendSide& send_side() { return send_side_; }

  // Intrusive list of the worker's connections, and whether it waits in one of the worker's queues.
  Connection* next = nullptr;
  Connection* previous = nullptr;
  bool is_queued = false;
  bool is_in_watch_queue = false;

 private:
  enum class Phase : std::uint8_t {
    kProxyHeader,  ///< Waits for what the proxy in front says of its client.
    kTlsHandshake,
    kHttp,       ///< Waits for a request head.
    kBody,       ///< Throws a request's body away.
    kAnswer,     ///< Somebody else works on the answer; nothing is read meanwhile.
    kLogin,      ///< Waits for ClientInfo.
    kAdmission,  ///< Logged in as soon as admission says so; nothing is read meanwhile.
    kRelay,      ///< Logged in.
    kConnect,    ///< Asked for a tunnel (CONNECT) that is not there yet; nothing is read meanwhile.
    kTunnel,     ///< Bytes go through a tunnel, both ways.
    kRefused,    ///< Told that it may not come in; kept for a while, nothing is read.
    kFinishing,  ///< Our side ends as soon as all is sent; input is thrown away.
    kClosed,
  };
  /// What only matters until login; freed then.
  struct Setup {
    bool is_not_ideal = false;      ///< The client did not get the node it prefers.
    bool saw_input = false;         ///< Bytes of TLS or HTTP have come.
    bool served_before = false;     ///< A request was answered on this connection.
    bool ends_with_answer = false;  ///< In kAnswer: closes behind it.
    http::BodySkipper body;
    http::Request connect_request;  ///< The one that waits for its tunnel.
    std::string proxy_header;       ///< Part of one, until the rest arrives.
    std::string unsent_greeting;    ///< ServerKey, until ServerInfo or the end of the turn.
    std::optional<crypto::SharedKey> shared_key;  ///< Seals ServerInfo, once ClientInfo came.
  };

  void on_deadline(TimePoint now);
  void begin_relay_timer();
  void on_relay_timer(TimePoint now);
  void on_write_check(TimePoint now);
  void on_read_resume(TimePoint now);
  void wait_until_writable(int fd) override;
  void on_blocked(WorkerScratch& scratch) override;
  std::optional<relay::DropSite> drop_site() override { return shared_.drop_site_of(key()); }
  [[nodiscard]] Duration write_timeout() const;
  /// The same for one that is logged in; any worker may ask.
  [[nodiscard]] Duration client_write_timeout() const;

  [[nodiscard]] Phase first_phase() const;
  [[nodiscard]] bool waits_for_others() const;
  bool take_preamble(std::span<const std::uint8_t>& input);
  bool take_proxy_header(std::span<const std::uint8_t>& input);
  bool refuse_stray_proxy_header(std::span<const std::uint8_t> input);
  [[nodiscard]] bool move_to(const net::SocketAddress& client);
  bool continue_handshake(std::span<const std::uint8_t> input);
  void reject_plain_http();
  std::size_t take_input(std::span<const std::uint8_t> input);
  void consume(std::span<const std::uint8_t>& input);
  bool consume_http(std::span<const std::uint8_t>& input);
  bool consume_body(std::span<const std::uint8_t>& input);
  void refuse_http(ErrorCode code);
  void answer(const http::Request& request);
  void begin_slow_answer(admin::SlowPage page, const http::Request& request);
  void refuse_too_many();
  void reply(const http::Response& response, const http::Request& request);
  [[nodiscard]] bool asks_for_tunnel(const http::Request& request) const;
  void begin_tunnel(const http::Request& request);
  void on_tunnel_open() override;
  void on_tunnel_failed(std::string_view why) override;
  [[nodiscard]] bool on_tunnel_bytes(std::span<const std::uint8_t> bytes) override;
  void on_tunnel_drained() override;
  void on_tunnel_ended() override;
  [[nodiscard]] bool tunnel_waits() const;
  void leave_tunnel();
  void begin_derp(const admin::DerpUpgrade& upgrade, std::span<const std::uint8_t>& input);
  bool begin_websocket(const admin::DerpUpgrade& upgrade, std::span<const std::uint8_t>& input);
  void refuse_websocket();
  void send_greeting();
  bool consume_login(std::span<const std::uint8_t>& input);
  void await_admission(admission::Admission& admission);
  [[nodiscard]] admission::Login admission_login() const;
  void complete_login();
  void refuse_login(Error error, std::span<const std::uint8_t> frame);
  void refuse_client(std::string_view problem, Duration hold);
  /// Bytes that wait for what completes them, in a block of exactly their size or more.
  struct Carry {
    Block block;
    std::size_t size = 0;
  };
  void keep(Carry& carry, std::span<const std::uint8_t> rest);
  void give_back(Carry& carry, std::uint8_t* to);
  void drop(Carry& carry);
  void respond(const std::string& bytes, bool close_after);
  void finish();

  Worker& worker_;
  Shared& shared_;
  WorkerScratch& scratch_;
  /// Of the client: behind a proxy not what the socket says.
  net::SocketAddress peer_;
  const ListenerKind listener_;
  Phase phase_;
  ConnectionLimits::Slot slot_;
  bool saw_hangup_ = false;
  bool is_registered_ = false;
  bool is_watcher_ = false;
  std::uint32_t watch_loops_ = 0;       ///< Batches since the watcher was woken.
  bool is_known_to_admission_ = false;  ///< Has to be told when this connection closes.
  net::Transport::Version tls_version_ = net::Transport::Version::kUnknown;
  bool counts_as_tls_ = false;
  std::unique_ptr<Setup> setup_;
  relay::FrameSplitter splitter_{/*is_mesh_peer=*/false};
  Carry carry_;         ///< A partial head or frame.
  Carry cipher_carry_;  ///< A partial record.
  Duration keep_alive_period_{};
  TimePoint keep_alive_at_{};
  bool samples_rtt_ = false;
  MemberTimer<Connection, &Connection::on_deadline> deadline_{*this};
  MemberTimer<Connection, &Connection::on_write_check> write_check_{*this};
  /// Armed while the client has to wait for its receive rate: nothing is read meanwhile, so TCP
  /// slows it down.
  MemberTimer<Connection, &Connection::on_read_resume> read_pause_{*this};
  /// The layer inside send_side_ when DERP runs in a WebSocket; null otherwise.
  WebSocketTransport* websocket_ = nullptr;
  /// The input has to be opened again: a layer was put around the record layer.
  bool reopen_ = false;
  std::unique_ptr<ConnectTunnel> tunnel_;  ///< Once one was asked for.
  SendSide send_side_;
};

}  // namespace detour::server
