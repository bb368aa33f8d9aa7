#pragma once

#include <optional>

#include "base/clock.h"
#include "base/result.h"
#include "crypto/keys.h"
#include "metrics/counters.h"
#include "relay/client.h"
#include "relay/directory.h"
#include "relay/drop_watcher.h"
#include "relay/frame_splitter.h"
#include "relay/outbox.h"
#include "relay/pair_sampler.h"

namespace detour::relay {

/// What mesh peers ask for and relay logic alone cannot do. The server does it; tests record.
class MeshRequests {
 public:
  /// WatchConns: `mesh_peer` wants to know who is here, comes and leaves.
  virtual void watch(Client& mesh_peer) = 0;
  /// ClosePeer: `mesh_peer` wants all connections of `key` closed.
  virtual void close_peer(Client& mesh_peer, const crypto::NodePublic& key) = 0;

 protected:
  ~MeshRequests() = default;
};

/// What each frame of a logged-in client does: looks destinations up, puts packets and answers into
/// the outbox, counts. No I/O, no clock, no log.
///
/// One per worker, for the clients that this worker reads.
class Router {
 public:
  Router(Directory& directory, Outbox& outbox, MeshRequests& mesh,
         metrics::WorkerCounters& counters, DropWatcher* drops = nullptr)
      : directory_(directory), outbox_(outbox), mesh_(mesh), counters_(counters), drops_(drops) {}

  /// Handles every whole frame at the front of `input` and cuts it away; what remains is a partial
  /// frame. Fails when the client broke the protocol: it has to be closed.
  [[nodiscard]] Result<void> handle_input(Client& source, FrameSplitter& splitter,
                                          std::span<const std::uint8_t>& input, TimePoint now);

  /// After login: counts the client and makes it findable. Gives the watchers to wake.
  [[nodiscard]] Directory::Woken add(Client& client);
  /// At the end: makes it unfindable and counts it out. Gives who has to hear of it.
  [[nodiscard]] Directory::Departure remove(Client& client);

  /// Which pairs of keys talked most of late.
  [[nodiscard]] PairSampler& pairs() { return pairs_; }

 private:
  void handle_frame(Client& source, const Frame& frame, TimePoint now);
  void relay_packet(Client& source, std::span<const std::uint8_t> payload, TimePoint now);
  void forward_packet(Client& mesh_peer, std::span<const std::uint8_t> payload, TimePoint now);
  /// Drops a packet for a key that is not here, which came by way of `carrier`; answers disco.
  void drop_unknown(Client& carrier, const Drop& drop, TimePoint now);
  void note_delivery(Client& source, const Client& destination);
  void note_preferred(Client& source, bool preferred, TimePoint now);

  Directory& directory_;
  Outbox& outbox_;
  MeshRequests& mesh_;
  metrics::WorkerCounters& counters_;
  DropWatcher* const drops_;  ///< May be null.
  PairSampler pairs_;

  /// Where the previous packet of this input went: most of one read goes to one peer. Reset for
  /// each input, so it cannot outlive the turn.
  Client* last_destination_ = nullptr;
  crypto::NodePublic last_key_;
  // The same for what a mesh peer forwards.
  Client* last_forward_destination_ = nullptr;
  crypto::NodePublic last_forward_source_;
};

}  // namespace detour::relay
