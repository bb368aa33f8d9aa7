#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <string>

#include "admin/status.h"
#include "base/clock.h"
#include "client/failure.h"
#include "client/tls_stream.h"
#include "net/address.h"
#include "server/lookup.h"
#include "server/member_timer.h"
#include "server/mesh_link.h"

namespace detour::server {

class Worker;

/// Keeps one link to one mesh peer for the life of the process: looks its name up, connects, and
/// begins anew with a growing pause when the link ends. Gives up only when the peer turns out to be
/// this relay itself, or when its peer is taken from the list.
///
/// Belongs to one worker, whose thread alone calls it, except for post_watch_write().
class MeshConnector {
 public:
  /// `tls` must outlive the connector.
  MeshConnector(Worker& worker, MeshTarget target, const client::TlsContext& tls);
  ~MeshConnector();
  MeshConnector(const MeshConnector&) = delete;
  MeshConnector& operator=(const MeshConnector&) = delete;

  /// Makes the first attempt.
  void begin();
  /// Ends the link and makes no other.
  void stop();
  /// The same, and says so, because the peer is not in the list any more.
  void remove();
  /// The peer is in the list again: as after begin().
  void begin_again();
  /// Makes the link anew, if one is wanted.
  void reconnect();

  [[nodiscard]] const MeshTarget& target() const { return target_; }
  [[nodiscard]] const client::TlsContext& tls() const { return tls_; }

  // For the link.

  /// The link is up: the other side tells us of its clients.
  void on_watching(const MeshLink& link);
  /// The link ended; it closes itself.
  void on_failed(const MeshLink& link, client::Failure failure, bool was_watching);
  /// The other side is this relay.
  void on_ourselves();
  /// How the link is doing; nothing when none is wanted any more.
  [[nodiscard]] std::optional<admin::MeshStatus> status();
  /// Another worker found the link's socket full; any worker.
  void post_watch_write();

 private:
  void on_timer(TimePoint now);
  void on_answer(Lookup::Answer answer);
  /// Connects to the next of the addresses, or gives up for now.
  void try_next_address();
  [[nodiscard]] bool try_address(const net::SocketAddress& address);
  void wait_for_next_attempt();
  void log_failure(const client::Failure& failure);

  Worker& worker_;
  const MeshTarget target_;
  const client::TlsContext& tls_;
  std::unique_ptr<Lookup> lookup_;
  std::deque<net::SocketAddress> addresses_;
  MeshLink* link_ = nullptr;
  client::Failure last_failure_{.layer = client::Layer::kTcp, .message = "not tried yet"};
  Duration pause_;
  bool stopped_ = false;
  LogGate gate_;
  std::minstd_rand jitter_;
  MemberTimer<MeshConnector, &MeshConnector::on_timer> timer_{*this};
};

}  // namespace detour::server
