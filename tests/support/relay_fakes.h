#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/buffer_pool.h"
#include "metrics/counters.h"
#include "relay/client.h"
#include "relay/outbox.h"
#include "relay/router.h"
#include "support/frames.h"

/// What stands in for sockets in tests of relay/.
namespace detour::test {

/// A client that nothing but relay logic knows.
inline void set_up(relay::Client& client, relay::ClientId id, const crypto::NodePublic& key,
                   TimePoint connected_at = {}, bool is_not_ideal = false) {
  client.set_identity({.id = id,
                       .key = key,
                       .is_mesh_peer = false,
                       .is_not_ideal = is_not_ideal,
                       .is_prober = false,
                       .app_name = {},
                       .connected_at = connected_at});
}

/// Records what is delivered, and gives the memory back as the server does.
class RecordedDelivery final : public relay::Delivery {
 public:
  struct Batch {
    const relay::Client* destination;
    std::vector<Bytes> frames;
    relay::BatchStats stats;
  };

  explicit RecordedDelivery(BufferPool& pool) : pool_(pool) {}

  void deliver(relay::Client& destination, relay::FrameBatch batch) override {
    batches.push_back(
        {.destination = &destination, .frames = split_frames(batch.bytes()), .stats = batch.stats});
    pool_.put(std::move(batch.block));
  }

  /// All frames for one client since the last call, in order; forgets them.
  [[nodiscard]] std::vector<Bytes> take(const relay::Client& destination) {
    std::vector<Bytes> frames;
    std::erase_if(batches, [&](Batch& batch) {
      if (batch.destination != &destination) return false;
      for (Bytes& one : batch.frames) frames.push_back(std::move(one));
      return true;
    });
    return frames;
  }

  std::vector<Batch> batches;

 private:
  BufferPool& pool_;
};

/// Records what mesh peers asked for.
class RecordedMeshRequests final : public relay::MeshRequests {
 public:
  void watch(relay::Client& mesh_peer) override { watches.push_back(&mesh_peer); }
  void close_peer(relay::Client& mesh_peer, const crypto::NodePublic& key) override {
    closed.emplace_back(&mesh_peer, key);
  }

  std::vector<const relay::Client*> watches;
  std::vector<std::pair<const relay::Client*, crypto::NodePublic>> closed;
};

/// Every counter of the relay logic that is not zero, by name; gauges and counts alike.
using CounterValues = std::map<std::string, std::uint64_t>;

[[nodiscard]] inline CounterValues nonzero(const metrics::WorkerCounters& counters) {
  CounterValues values;
  const auto put = [&values](std::string name, const metrics::Counter& counter) {
    if (counter.get() != 0) values[std::move(name)] = counter.get();
  };
  const auto put_both = [&put](const std::string& name, const metrics::PacketsAndBytes& both) {
    put(name + " packets", both.packets);
    put(name + " bytes", both.bytes);
  };
  for (const auto kind : {metrics::PacketKind::kDisco, metrics::PacketKind::kOther}) {
    const auto k = static_cast<std::size_t>(kind);
    const std::string suffix = " " + std::string(metrics::label(kind));
    put_both("received" + suffix, counters.received[k]);
    put_both("sent" + suffix, counters.sent[k]);
    for (std::size_t reason = 0; reason < metrics::kDropReasonCount; ++reason)
      put_both(std::string(metrics::label(metrics::DropReason{static_cast<std::uint8_t>(reason)})) +
                   suffix,
               counters.dropped[reason][k]);
  }
  put("accepts", counters.accepts);
  put("got_ping", counters.got_ping);
  put("sent_pong", counters.sent_pong);
  put("peer_gone_disconnected", counters.peer_gone_disconnected);
  put("peer_gone_not_here", counters.peer_gone_not_here);
  put("home_moves_in", counters.home_moves_in);
  put("home_moves_out", counters.home_moves_out);
  put("write_timeouts", counters.write_timeouts);
  put("current_connections", counters.current_connections);
  put("current_home_connections", counters.current_home_connections);
  put("current_notideal_connections", counters.current_notideal_connections);
  put("control_frames_dropped", counters.control_frames_dropped);
  put("logins", counters.logins);
  put("packets_forwarded_in", counters.packets_forwarded_in);
  put("packets_forwarded_out", counters.packets_forwarded_out);
  return values;
}

}  // namespace detour::test
