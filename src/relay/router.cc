#include "relay/router.h"

#include <algorithm>

namespace detour::relay {

namespace {

using metrics::DropReason;
using metrics::PacketKind;

/// Changes of home this soon after login are the client settling, not a move (server-behaviour 12).
constexpr std::chrono::seconds kHomeMoveGrace{5};

}  // namespace

Result<void> Router::handle_input(Client& source, FrameSplitter& splitter,
                                  std::span<const std::uint8_t>& input, TimePoint now) {
  last_destination_ = nullptr;
  last_forward_destination_ = nullptr;
  const std::uint64_t headers_before = splitter.headers_read();
  bool spoke = false;
  for (;;) {
    const auto frame = splitter.next(input, now);
    if (!spoke && splitter.headers_read() != headers_before) {
      spoke = true;
      directory_.spoke(source);
    }
    if (!frame) return std::unexpected(frame.error());
    if (!*frame) return {};
    handle_frame(source, **frame, now);
  }
}

void Router::handle_frame(Client& source, const Frame& frame, TimePoint now) {
  switch (frame.type) {
    case derp::FrameType::kSendPacket:
      relay_packet(source, frame.payload, now);
      return;
    case derp::FrameType::kPing: {
      counters_.got_ping.add();
      derp::PingData data;
      std::copy_n(frame.payload.begin(), data.size(), data.begin());
      outbox_.add_pong(source, data);
      return;
    }
    case derp::FrameType::kNotePreferred:
      note_preferred(source, frame.payload[0] != 0, now);
      return;
    // From mesh peers alone: admit_client_frame sees to that.
    case derp::FrameType::kForwardPacket:
      forward_packet(source, frame.payload, now);
      return;
    case derp::FrameType::kWatchConns:
      mesh_.watch(source);
      return;
    case derp::FrameType::kClosePeer:
      mesh_.close_peer(source,
                       crypto::NodePublic::from_bytes(frame.payload.first<crypto::kKeySize>()));
      return;
    default:
      // admit_client_frame lets no other type through to be handled.
      return;
  }
}

void Router::relay_packet(Client& source, std::span<const std::uint8_t> payload, TimePoint now) {
  const auto send = derp::read_send_packet(payload);
  if (!send) return;  // Cannot happen: admit_client_frame checked the size.
  const PacketKind kind = derp::is_disco(send->packet) ? PacketKind::kDisco : PacketKind::kOther;
  auto& received = counters_.received[static_cast<std::size_t>(kind)];
  received.packets.add();
  received.bytes.add(send->packet.size());
  ++source.received_.packets;
  source.received_.bytes += send->packet.size();

  if (last_destination_ == nullptr || last_key_ != send->destination) {
    last_destination_ = directory_.find(send->destination);
    if (last_destination_ == nullptr) {
      drop_unknown(source,
                   {.reason = DropReason::kUnknownDest,
                    .kind = kind,
                    .source = source.key(),
                    .destination = send->destination,
                    .packet_size = send->packet.size()},
                   now);
      return;
    }
    last_key_ = send->destination;
    if (!last_destination_->identity().is_mesh_link) note_delivery(source, *last_destination_);
  }
  pairs_.note(source.key(), send->destination, send->packet.size(), now);
  if (last_destination_->identity().is_mesh_link) {
    counters_.packets_forwarded_out.add();
    outbox_.add_forward(*last_destination_, source.key(), send->destination, send->packet, kind);
    return;
  }
  outbox_.add_packet(*last_destination_, source.key(), send->packet, kind);
}

void Router::forward_packet(Client& mesh_peer, std::span<const std::uint8_t> payload,
                            TimePoint now) {
  const auto forward = derp::read_forward_packet(payload);
  if (!forward) return;  // Cannot happen: admit_client_frame checked the size.
  const PacketKind kind = derp::is_disco(forward->packet) ? PacketKind::kDisco : PacketKind::kOther;
  counters_.packets_forwarded_in.add();
  ++mesh_peer.received_.packets;
  mesh_peer.received_.bytes += forward->packet.size();

  if (last_forward_destination_ == nullptr ||
      last_forward_destination_->key() != forward->destination ||
      last_forward_source_ != forward->source) {
    last_forward_destination_ = nullptr;
    Client* const destination = directory_.find(forward->destination);
    // One hop: what a mesh peer forwards is for our own clients, or it might circle for ever.
    if (destination == nullptr || destination->identity().is_mesh_link) {
      drop_unknown(mesh_peer,
                   {.reason = DropReason::kUnknownDestOnFwd,
                    .kind = kind,
                    .source = forward->source,
                    .destination = forward->destination,
                    .packet_size = forward->packet.size()},
                   now);
      return;
    }
    directory_.note_forwarded(mesh_peer, forward->source, *destination, now);
    last_forward_destination_ = destination;
    last_forward_source_ = forward->source;
  }
  pairs_.note(forward->source, forward->destination, forward->packet.size(), now);
  outbox_.add_packet(*last_forward_destination_, forward->source, forward->packet, kind);
}

void Router::drop_unknown(Client& carrier, const Drop& drop, TimePoint now) {
  counters_.drop(drop.reason, drop.kind, drop.packet_size);
  if (drops_ != nullptr && drops_->wants_drops()) drops_->on_drop(drop);
  ++carrier.received_.unknown_dest;
  // Only disco is answered: clients would churn on answers to ordinary packets.
  if (drop.kind == PacketKind::kDisco && carrier.not_here_.take(now))
    outbox_.add_peer_gone(carrier, drop.destination, derp::PeerGoneReason::kNotHere);
}

void Router::note_delivery(Client& source, const Client& destination) {
  auto& ids = source.delivered_to_;
  if (!ids.insert(destination.id()).second) return;
  if (ids.size() < source.delivered_to_prune_at_) return;
  // Keeps the set within twice the clients that are there.
  directory_.keep_present(ids);
  source.delivered_to_prune_at_ = std::max<std::size_t>(1024, 2 * ids.size());
}

void Router::note_preferred(Client& source, bool preferred, TimePoint now) {
  if (source.preferred_ == preferred) return;
  source.preferred_ = preferred;
  const bool is_move = now - source.identity().connected_at >= kHomeMoveGrace;
  if (preferred) {
    counters_.current_home_connections.add();
    if (is_move) counters_.home_moves_in.add();
  } else {
    counters_.current_home_connections.sub();
    if (is_move) counters_.home_moves_out.add();
  }
}

Directory::Woken Router::add(Client& client) {
  auto woken = directory_.add(client);
  counters_.logins.add();
  counters_.current_connections.add();
  if (client.identity().is_not_ideal) counters_.current_notideal_connections.add();
  return woken;
}

Directory::Departure Router::remove(Client& client) {
  auto departure = directory_.remove(client);
  counters_.current_connections.sub();
  if (client.identity().is_not_ideal) counters_.current_notideal_connections.sub();
  if (client.preferred_) counters_.current_home_connections.sub();
  return departure;
}

}  // namespace detour::relay
