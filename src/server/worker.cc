#include "server/worker.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace detour::server {

namespace {

constexpr std::size_t kReadBytes = 128 * 1024;
/// Opened input behind the largest thing that may be carried over: a ClientInfo of 256 KiB.
constexpr std::size_t kPlainBytes = 512 * 1024;
/// What one delivery makes of a full batch: its records' heads and tags come on top.
constexpr std::size_t kSealedBytes = 160 * 1024;
constexpr std::size_t kGatheredBytes = 192 * 1024;

/// Logins that go on in one turn: each step may cost as much as relaying dozens of packets.
constexpr std::size_t kSetupStepsPerTurn = 4;
/// Clients that one turn tells a survey of: about a tenth of a millisecond.
constexpr std::size_t kSurveyedPerTurn = 64;
/// A drain lets clients go in steps of this length.
constexpr Duration kDrainStep = std::chrono::milliseconds(50);
/// What clients are told to do when they are let go: to come back after a moment, elsewhere or to
/// what is started in our place.
constexpr std::chrono::milliseconds kReconnectIn{1000};
constexpr std::chrono::milliseconds kReconnectFor{10'000};
/// PeerGone notices sent in one turn.
constexpr std::size_t kDeparturesPerTurn = 64;

/// After a stop request: time to send what waits, and for the peers to close.
constexpr Duration kStopTimeout = std::chrono::milliseconds(1200);
/// Closed objects wait for other workers; looked at again after this long when nothing happens.
constexpr Duration kReclaimInterval = std::chrono::milliseconds(50);

}  // namespace

Worker::Worker(Shared& shared, std::size_t index)
    : shared_(shared),
      index_(index),
      scratch_(&shared.block_depot),
      timers_(Clock::now()),
      outbox_(scratch_.pool, *this),
      router_(shared.directory, outbox_, *this, scratch_.counters, &shared.drop_log),
      jitter_(std::random_device{}()),
      gather_pause_(shared.config.gather) {
  scratch_.cipher_in.reserve(kReadBytes);
  scratch_.plain.reserve(kPlainBytes);
  scratch_.sealed.reserve(kSealedBytes);
  scratch_.gathered.reserve(kGatheredBytes);
  scratch_.now = Clock::now();
  DETOUR_CHECK(poller_.add(mailbox_.fd(), EPOLLIN, mailbox_));
}

Worker::~Worker() {
  join();
}

bool Worker::add_listener(int fd, ListenerKind kind) {
  acceptors_.push_back(std::make_unique<Acceptor>(*this, fd, kind));
  return acceptors_.back()->start();
}

bool Worker::add_stun(int fd) {
  stun_ = std::make_unique<StunResponder>(fd, scratch_.counters, shared_);
  return poller_.add(fd, EPOLLIN, *stun_);
}

void Worker::start_thread() {
  thread_ = std::thread([this] { run(); });
}

void Worker::join() {
  if (thread_.joinable()) thread_.join();
}

void Worker::post_stop() {
  mailbox_.post([this] { begin_stop(); });
}

void Worker::post_connection(net::UniqueFd fd, net::SocketAddress peer, ListenerKind listener,
                             ConnectionLimits::Slot slot) {
  // Counted here, so that a burst of accepts is spread before this worker gets to see it.
  connection_count_.fetch_add(1, std::memory_order_relaxed);
  mailbox_.post([this, fd = std::move(fd), peer, listener, slot = std::move(slot)]() mutable {
    connection_count_.fetch_sub(1, std::memory_order_relaxed);
    adopt(std::move(fd), peer, listener, std::move(slot));
  });
}

void Worker::post_verdict(relay::ClientId id, admission::Verdict verdict) {
  mailbox_.post([this, id, verdict = std::move(verdict)] {
    const auto found = parked_.find(id);
    if (found == parked_.end()) return;
    Connection* const connection = found->second;
    parked_.erase(found);
    connection->take_verdict(verdict);
  });
}

void Worker::post_answer(relay::ClientId id, std::string bytes, bool is_last) {
  mailbox_.post([this, id, bytes = std::move(bytes), is_last] {
    const auto found = parked_.find(id);
    if (found != parked_.end()) found->second->take_answer(bytes, is_last);
  });
}

void Worker::post_cut_off(relay::ClientId id) {
  mailbox_.post([this, id] {
    for (relay::Client* const client : shared_.directory.find_ids({id}))
      static_cast<Connection*>(client)->close(Connection::CloseReason::kRefused);
  });
}

void Worker::post_release_spare() {
  mailbox_.post([this] { scratch_.pool.drop_unused(); });
}

void Worker::post_check_clients() {
  mailbox_.post([this] {
    for (Connection* connection = connections_; connection != nullptr;
         connection = connection->next)
      connection->check_client();
  });
}

void Worker::post_survey(std::shared_ptr<Survey> survey) {
  mailbox_.post([this, survey = std::move(survey)]() mutable { begin_survey(std::move(survey)); });
}

void Worker::post_receive_rate(relay::ReceiveRate rate) {
  mailbox_.post([this, rate] {
    for (Connection* connection = connections_; connection != nullptr;) {
      Connection* const next = connection->next;
      connection->set_receive_rate(rate);
      connection = next;
    }
  });
}

void Worker::post_mesh_peer(MeshTarget target, const client::TlsContext& tls) {
  mailbox_.post([this, target = std::move(target), &tls]() mutable {
    if (stopping_) return;
    if (MeshConnector* const known = find_mesh_connector(target)) return known->begin_again();
    mesh_connectors_.push_back(std::make_unique<MeshConnector>(*this, std::move(target), tls));
    mesh_connectors_.back()->begin();
  });
}

void Worker::post_remove_mesh_peer(MeshTarget target) {
  mailbox_.post([this, target = std::move(target)] {
    MeshConnector* const connector = find_mesh_connector(target);
    if (connector != nullptr && !stopping_) connector->remove();
  });
}

void Worker::post_mesh_key_changed() {
  mailbox_.post([this] {
    if (stopping_) return;
    for (Connection* connection = connections_; connection != nullptr;) {
      Connection* const next = connection->next;
      if (connection->identity().is_mesh_peer) connection->close(Connection::CloseReason::kMeshKey);
      connection = next;
    }
    for (const auto& connector : mesh_connectors_) connector->reconnect();
  });
}

void Worker::post_watch(relay::ClientId id) {
  mailbox_.post([this, id] {
    for (relay::Client* const client : shared_.directory.find_ids({id}))
      static_cast<Connection*>(client)->watch_write(scratch_.now);
  });
}

void Worker::post_watch_events(relay::ClientId id) {
  mailbox_.post([this, id] {
    for (relay::Client* const client : shared_.directory.find_ids({id}))
      queue_watch(*static_cast<Connection*>(client));
  });
}

void Worker::post_close(relay::ClientId id) {
  mailbox_.post([this, id] {
    for (relay::Client* const client : shared_.directory.find_ids({id}))
      static_cast<Connection*>(client)->close(Connection::CloseReason::kMeshPeer);
  });
}

void Worker::post_kick(relay::ClientId id) {
  mailbox_.post([this, id] {
    for (relay::Client* const client : shared_.directory.find_ids({id}))
      static_cast<Connection*>(client)->close(Connection::CloseReason::kOperator);
  });
}

void Worker::post_drain(TimePoint end) {
  mailbox_.post([this, end] { begin_drain(end); });
}

// --- The loop

void Worker::run() {
  gather_pause_.prepare_thread();
  for (;;) {
    turn();
    if (stopping_ && (connections_ == nullptr || scratch_.now >= stop_deadline_)) break;
  }
  while (connections_ != nullptr) connections_->close(Connection::CloseReason::kShutdown);
  run_survey();
  for (Connection* const connection : again_) connection->is_queued = false;
  for (Connection* const connection : setup_) connection->is_queued = false;
  for (Connection* const connection : begun_setup_) connection->is_queued = false;
  again_.clear();
  setup_.clear();
  begun_setup_.clear();
  bury_the_dead();
  shared_.quiescence.collect();
}

void Worker::turn() {
  shared_.quiescence.collect();
  const auto events = poller_.wait(wait_limit());
  shared_.quiescence.online(index_);
  scratch_.now = Clock::now();

  for (const epoll_event& event : events)
    static_cast<net::EventHandler*>(event.data.ptr)->on_event(event.events);
  run_again_queue();
  // What was read goes out before the expensive steps of logins.
  outbox_.flush();
  run_setup_queue();
  mailbox_.run_posted();
  timers_.advance(scratch_.now);
  run_departures();
  run_watch_queue();
  run_survey();
  outbox_.flush();

  bury_the_dead();
  shared_.quiescence.offline(index_);

  const auto& received = scratch_.counters.received;
  const std::uint64_t packets = received[0].packets.get() + received[1].packets.get();
  const Duration pause = gather_pause_.wanted(packets, scratch_.now);
  if (pause != Duration::zero() && !has_work() && !stopping_) GatherPause::sleep(pause);
}

bool Worker::has_work() const {
  return !again_.empty() || !setup_.empty() || !begun_setup_.empty() || !departures_.empty() ||
         !watch_queue_.empty() || walk_.has_value();
}

std::optional<Duration> Worker::wait_limit() const {
  if (has_work()) return Duration::zero();
  std::optional<Duration> limit = timers_.time_to_next(Clock::now());
  const auto at_most = [&limit](Duration other) { limit = std::min(limit.value_or(other), other); };
  if (shared_.quiescence.has_pending()) at_most(kReclaimInterval);
  if (stopping_) at_most(std::max(stop_deadline_ - Clock::now(), Duration::zero()));
  return limit;
}

void Worker::deliver(relay::Client& destination, relay::FrameBatch batch) {
  SendSide& send_side = destination.identity().is_mesh_link
                            ? static_cast<MeshLink&>(destination).send_side()
                            : static_cast<Connection&>(destination).send_side();
  send_side.deliver(std::move(batch), scratch_);
}

void Worker::run_again_queue() {
  std::swap(again_, again_now_);
  for (Connection* const connection : again_now_) {
    connection->is_queued = false;
    if (connection->is_closed()) continue;
    if (connection->is_in_setup()) {
      queue_setup(*connection);
    } else {
      connection->read_turn();
    }
  }
  again_now_.clear();
}

/// In a storm of logins, those that have begun go first: in the order of arrival all handshakes
/// would go on in step, none would be done for long, and all would run out of time together. One
/// step of a turn belongs to a newcomer, so that nobody can keep them out.
void Worker::run_setup_queue() {
  for (std::size_t step = 0; step != kSetupStepsPerTurn; ++step) {
    const bool begins = begun_setup_.empty() || (step == 0 && !setup_.empty());
    std::deque<Connection*>& queue = begins ? setup_ : begun_setup_;
    if (queue.empty()) return;
    Connection* const connection = queue.front();
    queue.pop_front();
    connection->is_queued = false;
    if (!connection->is_closed()) connection->read_turn();
  }
}

void Worker::run_departures() {
  std::size_t budget = kDeparturesPerTurn;
  while (budget != 0 && !departures_.empty()) {
    Departed& departed = departures_.front();
    const std::size_t count = std::min(budget, departed.delivered_to.size());
    const std::vector<relay::ClientId> ids(
        departed.delivered_to.end() - static_cast<std::ptrdiff_t>(count),
        departed.delivered_to.end());
    departed.delivered_to.resize(departed.delivered_to.size() - count);
    budget -= count;
    for (relay::Client* const client : shared_.directory.find_ids(ids))
      outbox_.add_peer_gone(*client, departed.key, derp::PeerGoneReason::kDisconnected);
    if (departed.delivered_to.empty()) departures_.pop_front();
  }
}

void Worker::begin_survey(std::shared_ptr<Survey> survey) {
  walk_ = Walk{.survey = std::move(survey), .next = connections_, .picture = {}};
  for (const auto& connector : mesh_connectors_)
    if (auto status = connector->status()) walk_->picture.mesh.push_back(std::move(*status));
  walk_->picture.pairs = router_.pairs().report(scratch_.now);
  // After the last turn nobody would go on with it.
  if (stopping_) run_survey();
}

void Worker::run_survey() {
  if (!walk_) return;
  for (std::size_t budget = kSurveyedPerTurn; budget != 0 && walk_->next != nullptr; --budget) {
    Connection* const connection = std::exchange(walk_->next, walk_->next->next);
    if (auto status = connection->status()) walk_->picture.clients.push_back(std::move(*status));
  }
  if (walk_->next != nullptr) return;
  walk_->survey->answer(index_, std::move(walk_->picture));
  walk_.reset();
}

void Worker::run_watch_queue() {
  if (watch_queue_.empty()) return;
  std::swap(watch_queue_, watch_queue_now_);
  for (relay::Client* const client : shared_.directory.find_ids(watch_queue_now_)) {
    auto& watcher = static_cast<Connection&>(*client);
    watcher.is_in_watch_queue = false;
    watcher.send_watch_events();
  }
  watch_queue_now_.clear();
}

// --- Mesh peers

void Worker::watch(relay::Client& mesh_peer) {
  static_cast<Connection&>(mesh_peer).watch();
}

void Worker::close_peer(relay::Client& mesh_peer, const crypto::NodePublic& key) {
  const auto connections = shared_.directory.connections_of(key);
  shared_.log_gated(LogCause::kMesh, LogLevel::kInfo, scratch_.now, [&] {
    const auto& asker = static_cast<Connection&>(mesh_peer);
    return fmt::format("mesh peer {} {} asked to close {}: {}", asker.key().short_text(),
                       asker.peer().text(), key.typed(),
                       connections.empty()
                           ? "not here"
                           : fmt::format("{} connection{} closed", connections.size(),
                                         connections.size() == 1 ? "" : "s"));
  });
  for (relay::Client* const client : connections) static_cast<Connection*>(client)->post_close();
}

MeshConnector* Worker::find_mesh_connector(const MeshTarget& target) {
  for (const auto& connector : mesh_connectors_)
    if (connector->target() == target) return connector.get();
  return nullptr;
}

void Worker::wake_watchers(const relay::Directory::Woken& woken) {
  for (relay::Client* const watcher : woken) static_cast<Connection*>(watcher)->wake_watcher();
}

void Worker::queue_watch(Connection& watcher) {
  if (std::exchange(watcher.is_in_watch_queue, true)) return;
  watch_queue_.push_back(watcher.id());
}

// --- Connections

void Worker::adopt(net::UniqueFd fd, net::SocketAddress peer, ListenerKind listener,
                   ConnectionLimits::Slot slot) {
  if (stopping_) return;
  const auto jitter = std::chrono::milliseconds(std::uniform_int_distribution<std::int64_t>(
      0, std::chrono::duration_cast<std::chrono::milliseconds>(kKeepAliveJitter).count() -
             1)(jitter_));
  auto connection = std::make_unique<Connection>(*this, std::move(fd), std::move(peer), listener,
                                                 std::move(slot), kKeepAlivePeriod + jitter);
  if (!connection->start()) return;

  Connection* const added = connection.release();
  added->next = connections_;
  if (connections_ != nullptr) connections_->previous = added;
  connections_ = added;
  connection_count_.fetch_add(1, std::memory_order_relaxed);
}

void Worker::queue_setup(Connection& connection) {
  if (std::exchange(connection.is_queued, true)) return;
  (connection.has_begun_setup() ? begun_setup_ : setup_).push_back(&connection);
}

void Worker::queue_again(Connection& connection) {
  if (std::exchange(connection.is_queued, true)) return;
  again_.push_back(&connection);
}

void Worker::announce_departure(const crypto::NodePublic& key,
                                relay::Directory::Departure departure) {
  wake_watchers(departure.woken);
  if (!departure.key_left || departure.delivered_to.empty() || stopping_) return;
  departures_.push_back({.key = key, .delivered_to = std::move(departure.delivered_to)});
}

void Worker::bury(Connection& connection) {
  if (walk_ && walk_->next == &connection) walk_->next = connection.next;
  if (connection.previous != nullptr) {
    connection.previous->next = connection.next;
  } else {
    connections_ = connection.next;
  }
  if (connection.next != nullptr) connection.next->previous = connection.previous;
  connection_count_.fetch_sub(1, std::memory_order_relaxed);
  dead_.push_back(&connection);
}

void Worker::bury_the_dead() {
  std::erase_if(dead_, [this](Connection* connection) {
    // A queue still points to it: next turn.
    if (connection->is_queued) return false;
    shared_.quiescence.retire(std::unique_ptr<Retirable>(connection));
    return true;
  });
}

void Worker::stop_listening() {
  acceptors_.clear();
  if (stun_) poller_.remove(stun_->fd());
  stun_.reset();
}

// --- Draining

void Worker::begin_drain(TimePoint end) {
  if (stopping_ || drain_) return;
  stop_listening();
  shared_.drain.stopped_listening();
  drain_ = DrainState{.begin = scratch_.now, .end = end};
  for (Connection* connection = connections_; connection != nullptr; connection = connection->next)
    if (connection->is_logged_in()) ++drain_->clients;
  on_drain_timer(scratch_.now);
}

void Worker::on_drain_timer(TimePoint now) {
  // How many may still be here: all at the beginning, none at the end.
  const auto length = std::chrono::duration<double>(drain_->end - drain_->begin).count();
  const auto left = std::chrono::duration<double>(drain_->end - now).count();
  const double share = length <= 0 ? 0 : std::clamp(left / length, 0.0, 1.0);
  std::size_t may_stay = static_cast<std::size_t>(share * static_cast<double>(drain_->clients));
  std::vector<Connection*> leaving;
  for (Connection* connection = connections_; connection != nullptr;
       connection = connection->next) {
    if (!connection->is_logged_in()) continue;
    if (may_stay != 0) {
      --may_stay;
      continue;
    }
    leaving.push_back(connection);
  }
  for (Connection* const connection : leaving)
    outbox_.add_restarting(*connection, kReconnectIn, kReconnectFor);
  outbox_.flush();
  for (Connection* const connection : leaving) connection->begin_shutdown();
  timers_.arm(drain_timer_, now + kDrainStep);
}

void Worker::begin_stop() {
  if (std::exchange(stopping_, true)) return;
  stop_deadline_ = scratch_.now + kStopTimeout;
  stop_listening();
  timers_.disarm(drain_timer_);
  departures_.clear();
  for (const auto& connector : mesh_connectors_) connector->stop();
  for (Connection* connection = connections_; connection != nullptr;) {
    Connection* const next = connection->next;
    connection->begin_shutdown();
    connection = next;
  }
}

}  // namespace detour::server
