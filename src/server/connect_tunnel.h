#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/buffer_pool.h"
#include "base/clock.h"
#include "net/address.h"
#include "net/fd.h"
#include "net/poller.h"
#include "server/connect_target.h"
#include "server/lookup.h"
#include "server/member_timer.h"
#include "server/places.h"

namespace detour::server {

class Worker;

/// What all tunnels of a relay share.
struct ConnectTunnels {
  /// Tunnels at once, also those that are being set up.
  static constexpr std::uint32_t kTunnelsMax = 1024;
  /// Look-ups at once. Each has a thread that cannot be called off, so they are counted apart from
  /// the clients that asked for them and may be gone.
  static constexpr std::uint32_t kLookupsMax = 32;

  Places tunnels{kTunnelsMax};
  Places lookups{kLookupsMax};
  /// For tests: where all tunnels lead, whatever they were asked for.
  std::optional<net::SocketAddress> divert_to;
};

/// The far side of a CONNECT request: a TCP connection to the target, and what waits for it.
///
/// Belongs to the connection that asked, and to its worker's thread. Neither direction holds more
/// than one read: who cannot take what is there is not read for.
class ConnectTunnel final : public net::EventHandler {
 public:
  /// The connection that asked.
  class Client {
   public:
    virtual void on_tunnel_open() = 0;
    /// There will be no tunnel: `why` is for the log. open() may be called again, also from here.
    virtual void on_tunnel_failed(std::string_view why) = 0;
    /// Bytes from the target. False when no more may come before resume().
    [[nodiscard]] virtual bool on_tunnel_bytes(std::span<const std::uint8_t> bytes) = 0;
    /// The target took everything: it is not full any more.
    virtual void on_tunnel_drained() = 0;
    /// The target ended, or nothing moved for too long. The tunnel is closed.
    virtual void on_tunnel_ended() = 0;

   protected:
    ~Client() = default;
  };

  ConnectTunnel(Worker& worker, Client& client);
  ~ConnectTunnel();
  ConnectTunnel(const ConnectTunnel&) = delete;
  ConnectTunnel& operator=(const ConnectTunnel&) = delete;

  /// Begins to connect; the client is told later, never from within. False when there are as many
  /// tunnels or look-ups as there may be.
  [[nodiscard]] bool open(const ConnectTarget& target);

  /// Sends bytes to the target, or keeps what it does not take. Only while open and not full, but
  /// for what is left of one read.
  void send(std::span<const std::uint8_t> bytes);
  /// Something waits for the target: the client has to be left unread.
  [[nodiscard]] bool is_full() const { return waiting_begin_ != waiting_end_; }
  /// The client sends no more: the target is told so behind what waits, and may go on sending.
  void end_of_client();
  [[nodiscard]] bool client_ended() const { return client_ended_; }
  /// The client took some of what was sent to it.
  void note_progress();
  /// The client can take more.
  void resume();
  /// Ends it without telling the client. May be called in any state.
  void close();

  void on_event(std::uint32_t events) override;

 private:
  enum class Phase : std::uint8_t { kIdle, kLookup, kConnect, kOpen };

  void on_addresses(Lookup::Answer answer);
  void try_next_address();
  [[nodiscard]] bool try_address(const net::SocketAddress& address);
  void on_connected();
  void read();
  void flush();
  void keep(std::span<const std::uint8_t> rest);
  void on_deadline(TimePoint now);
  void fail(std::string_view why);
  void end();

  Worker& worker_;
  Client& client_;
  Phase phase_ = Phase::kIdle;
  Places::Place place_;
  std::unique_ptr<Lookup> lookup_;
  /// Answers on their way to this thread find out by it that nobody waits for them any more.
  std::shared_ptr<ConnectTunnel*> self_;
  std::deque<net::SocketAddress> addresses_;
  std::string last_failure_;
  TimePoint dial_until_{};
  net::UniqueFd fd_;
  /// What the target did not take: waiting_[begin, end).
  Block waiting_;
  std::size_t waiting_begin_ = 0;
  std::size_t waiting_end_ = 0;
  bool paused_ = false;  ///< The client takes nothing: the target is not read.
  bool client_ended_ = false;
  TimePoint last_progress_{};
  MemberTimer<ConnectTunnel, &ConnectTunnel::on_deadline> deadline_{*this};
};

}  // namespace detour::server
