#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <thread>
#include <unordered_map>
#include <vector>

#include "net/mailbox.h"
#include "net/poller.h"
#include "net/timer_wheel.h"
#include "relay/outbox.h"
#include "relay/router.h"
#include "server/acceptor.h"
#include "server/connection.h"
#include "server/gather_pause.h"
#include "server/member_timer.h"
#include "server/mesh_connector.h"
#include "server/send_side.h"
#include "server/shared.h"
#include "server/stun_responder.h"
#include "server/surveyor.h"

namespace detour::server {

/// One thread, one loop, and the reading side of its connections (docs/architecture.md).
///
/// A turn: wait; handle what happened; send what was gathered, once per destination; let go of what
/// closed. Everything but post_*() and the counters belongs to the worker's own thread.
class Worker final : private relay::Delivery, private relay::MeshRequests {
 public:
  Worker(Shared& shared, std::size_t index);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// Before the thread starts: sockets that all workers listen on. They must outlive the worker.
  [[nodiscard]] bool add_listener(int fd, ListenerKind kind);
  /// The same for the STUN socket, on one of the workers.
  [[nodiscard]] bool add_stun(int fd);

  void start_thread();
  /// Asks the worker to send what waits, end all connections and stop. Returns at once; any thread.
  void post_stop();
  void join();
  /// When all workers have been joined: lets go of what came too late, such as accepted sockets.
  void drop_posted() { mailbox_.run_posted(); }

  /// Runs `task` on this worker; any thread.
  void post(net::Mailbox::Task task) { mailbox_.post(std::move(task)); }
  /// Takes over an accepted socket; any thread.
  void post_connection(net::UniqueFd fd, net::SocketAddress peer, ListenerKind listener,
                       ConnectionLimits::Slot slot);
  /// Whether a parked login may come in; any thread. Nothing happens if it is gone.
  void post_verdict(relay::ClientId id, admission::Verdict verdict);
  /// A piece of the answer that a parked connection waits for; any thread. Nothing happens if it is
  /// gone.
  void post_answer(relay::ClientId id, std::string bytes, bool is_last);
  /// A client may not stay; any thread.
  void post_cut_off(relay::ClientId id);
  /// Has admission check all clients that came while it did not; any thread.
  void post_check_clients();
  /// Frees the buffers that were not used since the last call.
  void post_release_spare();
  /// Has this worker tell of its clients; any thread. It answers while it goes on working, and also
  /// when it has ended.
  void post_survey(std::shared_ptr<Survey> survey);
  /// Gives all clients of this worker a receive rate; any thread.
  void post_receive_rate(relay::ReceiveRate rate);
  /// A mesh peer to keep a link to; any thread. `tls` must outlive the worker.
  void post_mesh_peer(MeshTarget target, const client::TlsContext& tls);
  /// Ends the link to one that post_mesh_peer() gave; any thread.
  void post_remove_mesh_peer(MeshTarget target);
  /// Closes this worker's mesh peers and makes its links anew; any thread.
  void post_mesh_key_changed();
  /// A client of this worker was found blocked by another worker; any thread.
  void post_watch(relay::ClientId id);
  /// A client of this worker watches, and events wait for it; any thread.
  void post_watch_events(relay::ClientId id);
  /// A client of this worker is to be closed for a mesh peer; any thread.
  void post_close(relay::ClientId id);
  /// The same for the operator.
  void post_kick(relay::ClientId id);
  /// Takes no new connection any more, and lets the clients go one after another until `end`; any
  /// thread.
  void post_drain(TimePoint end);

  [[nodiscard]] const metrics::WorkerCounters& counters() const { return scratch_.counters; }
  [[nodiscard]] std::uint64_t connection_count() const {
    return connection_count_.load(std::memory_order_relaxed);
  }

  // For the worker's own connections and listeners.
  [[nodiscard]] std::size_t index() const { return index_; }
  [[nodiscard]] Shared& shared() { return shared_; }
  [[nodiscard]] WorkerScratch& scratch() { return scratch_; }
  [[nodiscard]] net::Poller& poller() { return poller_; }
  [[nodiscard]] net::TimerWheel& timers() { return timers_; }
  [[nodiscard]] relay::Outbox& outbox() { return outbox_; }
  [[nodiscard]] relay::Router& router() { return router_; }

  /// Makes a connection of an accepted socket, on this worker.
  void adopt(net::UniqueFd fd, net::SocketAddress peer, ListenerKind listener,
             ConnectionLimits::Slot slot);
  /// Runs a connection that is not logged in yet, when its share of a turn comes.
  void queue_setup(Connection& connection);
  /// Lets a connection read again in the next turn.
  void queue_again(Connection& connection);
  /// A logged-in client has sent something.
  void saw_sender(relay::ClientId id) { gather_pause_.saw(id); }
  /// Tells those who were sent packets of `key` that it left, a few in each turn.
  void announce_departure(const crypto::NodePublic& key, relay::Directory::Departure departure);
  /// Lets a watcher send events in this turn or the next one.
  void queue_watch(Connection& watcher);
  /// Tells the workers of these watchers that events wait.
  static void wake_watchers(const relay::Directory::Woken& woken);
  [[nodiscard]] std::vector<relay::WatchEvent>& watch_events() { return watch_events_; }
  [[nodiscard]] ByteBuffer& watch_frames() { return watch_frames_; }
  /// Keeps a connection that waits for admission or an answer; unpark() when it ends before.
  void park(Connection& connection) { parked_.emplace(connection.id(), &connection); }
  void unpark(Connection& connection) { parked_.erase(connection.id()); }
  /// Takes a closed connection for destruction at the end of the turn.
  void bury(Connection& connection);

 private:
  struct Departed {
    crypto::NodePublic key;
    std::vector<relay::ClientId> delivered_to;
  };

  /// A walk along the clients, for a survey.
  struct Walk {
    std::shared_ptr<Survey> survey;
    Connection* next = nullptr;  ///< Where to go on; follows when that one closes.
    WorkerPicture picture;
  };

  [[nodiscard]] MeshConnector* find_mesh_connector(const MeshTarget& target);
  void run();
  void turn();
  void begin_survey(std::shared_ptr<Survey> survey);
  void run_survey();
  void deliver(relay::Client& destination, relay::FrameBatch batch) override;
  void watch(relay::Client& mesh_peer) override;
  void close_peer(relay::Client& mesh_peer, const crypto::NodePublic& key) override;
  void run_again_queue();
  void run_setup_queue();
  void run_departures();
  void run_watch_queue();
  void begin_stop();
  void stop_listening();
  void begin_drain(TimePoint end);
  void on_drain_timer(TimePoint now);
  void bury_the_dead();
  /// Whether something waits for the next turn.
  [[nodiscard]] bool has_work() const;
  [[nodiscard]] std::optional<Duration> wait_limit() const;

  Shared& shared_;
  const std::size_t index_;
  WorkerScratch scratch_;
  net::Poller poller_;
  net::TimerWheel timers_;
  net::Mailbox mailbox_;
  relay::Outbox outbox_;
  relay::Router router_;
  std::vector<std::unique_ptr<Acceptor>> acceptors_;
  std::unique_ptr<StunResponder> stun_;
  /// Also of peers that there are no links to any more: they may come back.
  std::vector<std::unique_ptr<MeshConnector>> mesh_connectors_;

  Connection* connections_ = nullptr;  ///< Intrusive list of all that are not closed.
  std::atomic<std::uint64_t> connection_count_{0};
  std::unordered_map<relay::ClientId, Connection*> parked_;
  std::vector<Connection*> again_;
  std::vector<Connection*> again_now_;
  std::deque<Connection*> setup_;        ///< Whose setup begins.
  std::deque<Connection*> begun_setup_;  ///< Whose setup has begun.
  std::vector<Connection*> dead_;
  std::deque<Departed> departures_;
  std::vector<relay::ClientId> watch_queue_;
  std::vector<relay::ClientId> watch_queue_now_;
  // Lent to watchers.
  std::vector<relay::WatchEvent> watch_events_;
  ByteBuffer watch_frames_;
  std::minstd_rand jitter_;
  std::optional<Walk> walk_;

  struct DrainState {
    TimePoint begin;
    TimePoint end;
    std::size_t clients = 0;  ///< When it began.
  };
  std::optional<DrainState> drain_;
  MemberTimer<Worker, &Worker::on_drain_timer> drain_timer_{*this};

  GatherPause gather_pause_;
  bool stopping_ = false;
  TimePoint stop_deadline_{};
  std::thread thread_;
};

}  // namespace detour::server
