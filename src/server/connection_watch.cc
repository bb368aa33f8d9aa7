#include <fmt/format.h>
#include <sys/socket.h>

#include <array>
#include <span>
#include <utility>
#include <vector>

#include "derp/handshake.h"
#include "server/connection.h"
#include "server/worker.h"

namespace detour::server {

namespace {

/// Events told to one watcher in one turn.
constexpr std::size_t kWatchEventsPerTurn = 1024;

void encode_watch_events(std::span<const relay::WatchEvent> events, ByteBuffer& out,
                         metrics::WorkerCounters& counters) {
  out.clear();
  for (const relay::WatchEvent& event : events) {
    if (!event.present) {
      out.append(derp::encode_peer_gone(event.key, derp::PeerGoneReason::kDisconnected));
      counters.peer_gone_disconnected.add();
      continue;
    }
    std::array<std::uint8_t, derp::kPeerPresentFrameMax> frame;
    const std::size_t size =
        derp::write_peer_present(frame, {.peer = event.key,
                                         .address = event.address,
                                         .port = event.port,
                                         .flags = event.flags,
                                         .app_name = {event.app_name.data(), event.app_name_size}});
    out.append(std::span(frame).first(size));
  }
  counters.mesh_update_batch_size.observe(events.size());
  counters.buffered_write_frames.observe(events.size());
}

}  // namespace

void Connection::watch() {
  // We are in our own list of mesh peers: who talks to itself needs no telling.
  if (phase_ != Phase::kRelay || key() == shared_.public_key) return;
  shared_.directory.watch(*this);
  is_watcher_ = true;
  worker_.queue_watch(*this);
}

void Connection::wake_watcher() {
  worker_.post_watch_events(id());
}

void Connection::post_close() {
  worker_.post_close(id());
}

void Connection::send_watch_events() {
  // What the socket does not take waits in the directory: no event may be lost.
  if (phase_ != Phase::kRelay || send_side_.stall(scratch_).blocked) return;
  std::vector<relay::WatchEvent>& events = worker_.watch_events();
  ByteBuffer& frames = worker_.watch_frames();
  events.clear();
  const auto taken = shared_.directory.take_watch_events(*this, kWatchEventsPerTurn, events);
  if (taken.fell_behind) {
    scratch_.counters.mesh_watchers_ended.add();
    shared_.log_gated(LogCause::kMesh, LogLevel::kWarn, scratch_.now, [&] {
      return fmt::format(
          "mesh peer {} {} fell more than {} events behind and was closed, so that "
          "it begins anew",
          key().short_text(), peer_.text(), relay::Directory::kWatchEventsMax);
    });
    return close(CloseReason::kRefused);
  }
  if (!events.empty()) {
    encode_watch_events(events, frames, scratch_.counters);
    send_side_.send(frames.bytes(), scratch_);
    ++watch_loops_;
  }
  if (taken.more) return worker_.queue_watch(*this);
  if (watch_loops_ == 0) return;
  scratch_.counters.mesh_update_loop_count.observe(std::exchange(watch_loops_, 0));
}

}  // namespace detour::server
