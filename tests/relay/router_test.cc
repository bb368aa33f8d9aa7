#include "relay/router.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/frames.h"
#include "support/relay_fakes.h"

namespace detour::relay {
namespace {

using derp::FrameType;
using derp::PeerGoneReason;
using std::chrono::milliseconds;
using std::chrono::seconds;
using test::Bytes;
using test::concat;
using test::CounterValues;
using test::disco_packet;
using test::frame;
using test::numbered_key;
using test::plain_packet;
using test::recv_packet_frame;
using test::send_packet_frame;

Bytes not_here(std::uint32_t key_number) {
  return test::to_bytes(derp::encode_peer_gone(numbered_key(key_number), PeerGoneReason::kNotHere));
}

/// A worker's relay logic without its worker.
struct World {
  /// One connection and the state of its stream.
  struct Peer {
    Client client;
    FrameSplitter splitter{/*is_mesh_peer=*/false};
  };

  std::unique_ptr<Peer> connect(std::uint32_t key_number, bool is_not_ideal = false) {
    auto peer = std::make_unique<Peer>();
    test::set_up(peer->client, directory.next_id(), numbered_key(key_number), now, is_not_ideal);
    static_cast<void>(router.add(peer->client));
    return peer;
  }

  /// Whether the connection may go on. All of `stream` must be whole frames.
  bool say(Peer& peer, const Bytes& stream) {
    std::span<const std::uint8_t> input(stream);
    const auto handled = router.handle_input(peer.client, peer.splitter, input, now);
    outbox.flush();
    EXPECT_TRUE(!handled || input.empty());
    return handled.has_value();
  }

  Quiescence quiescence{1};
  Directory directory{quiescence};
  BufferPool pool;
  test::RecordedDelivery delivery{pool};
  Outbox outbox{pool, delivery};
  metrics::WorkerCounters counters;
  test::RecordedMeshRequests mesh;
  Router router{directory, outbox, mesh, counters};
  TimePoint now = TimePoint{} + std::chrono::hours(1);
};

TEST(Router, DoesWhatEachFrameAsksAndCountsIt) {
  constexpr std::uint32_t kSelf = 1;
  constexpr std::uint32_t kOther = 2;
  constexpr std::uint32_t kNobody = 3;
  struct Case {
    std::string_view name;
    Bytes sent;
    std::vector<Bytes> to_self;
    std::vector<Bytes> to_other;
    CounterValues counted;
  };
  const Bytes data = plain_packet(148);
  const Bytes disco = disco_packet(122);
  const Bytes ping = {1, 2, 3, 4, 5, 6, 7, 8};
  const Bytes long_ping = plain_packet(1000);
  const Bytes long_ping_answer =
      frame(FrameType::kPong, std::span(long_ping).first(derp::kPingSize));
  const Case cases[] = {
      {"nothing", {}, {}, {}, {}},
      {"a packet",
       send_packet_frame(numbered_key(kOther), data),
       {},
       {recv_packet_frame(numbered_key(kSelf), data)},
       {{"received other packets", 1}, {"received other bytes", 148}}},
      {"a disco packet",
       send_packet_frame(numbered_key(kOther), disco),
       {},
       {recv_packet_frame(numbered_key(kSelf), disco)},
       {{"received disco packets", 1}, {"received disco bytes", 122}}},
      {"a packet of no bytes",
       send_packet_frame(numbered_key(kOther), {}),
       {},
       {recv_packet_frame(numbered_key(kSelf), {})},
       {{"received other packets", 1}}},
      {"a packet of the largest size",
       send_packet_frame(numbered_key(kOther), plain_packet(derp::kPacketSizeMax)),
       {},
       {recv_packet_frame(numbered_key(kSelf), plain_packet(derp::kPacketSizeMax))},
       {{"received other packets", 1}, {"received other bytes", 65'536}}},
      {"a packet to oneself",
       send_packet_frame(numbered_key(kSelf), data),
       {recv_packet_frame(numbered_key(kSelf), data)},
       {},
       {{"received other packets", 1}, {"received other bytes", 148}}},
      {"a packet to nobody: no answer, or clients would churn",
       send_packet_frame(numbered_key(kNobody), data),
       {},
       {},
       {{"received other packets", 1},
        {"received other bytes", 148},
        {"unknown_dest other packets", 1},
        {"unknown_dest other bytes", 148}}},
      {"disco to nobody: not here",
       send_packet_frame(numbered_key(kNobody), disco),
       {not_here(kNobody)},
       {},
       {{"received disco packets", 1},
        {"received disco bytes", 122},
        {"unknown_dest disco packets", 1},
        {"unknown_dest disco bytes", 122}}},
      {"disco to nobody, then data to somebody, then to nobody again",
       concat({send_packet_frame(numbered_key(kNobody), disco),
               send_packet_frame(numbered_key(kOther), data),
               send_packet_frame(numbered_key(kNobody), data),
               send_packet_frame(numbered_key(kOther), disco)}),
       {not_here(kNobody)},
       {recv_packet_frame(numbered_key(kSelf), data),
        recv_packet_frame(numbered_key(kSelf), disco)},
       {{"received disco packets", 2},
        {"received disco bytes", 244},
        {"received other packets", 2},
        {"received other bytes", 296},
        {"unknown_dest disco packets", 1},
        {"unknown_dest disco bytes", 122},
        {"unknown_dest other packets", 1},
        {"unknown_dest other bytes", 148}}},
      {"a ping",
       frame(FrameType::kPing, ping),
       {frame(FrameType::kPong, ping)},
       {},
       {{"got_ping", 1}}},
      {"the longest ping: its first eight bytes come back",
       frame(FrameType::kPing, long_ping),
       {long_ping_answer},
       {},
       {{"got_ping", 1}}},
      {"frames that are not for us",
       concat({frame(0xee, plain_packet(300)), frame(FrameType::kPong, ping),
               frame(FrameType::kClientInfo, plain_packet(80)), frame(FrameType::kKeepAlive)}),
       {},
       {},
       {}},
      {"home",
       test::to_bytes(derp::encode_note_preferred(true)),
       {},
       {},
       {{"current_home_connections", 1}}},
      {"home with any byte but zero",
       frame(FrameType::kNotePreferred, Bytes{0xff}),
       {},
       {},
       {{"current_home_connections", 1}}},
  };
  for (const auto& [name, sent, to_self, to_other, counted] : cases) {
    SCOPED_TRACE(name);
    World world;
    const auto self = world.connect(kSelf);
    const auto other = world.connect(kOther);
    EXPECT_TRUE(world.say(*self, sent));
    EXPECT_EQ(world.delivery.take(self->client), to_self);
    EXPECT_EQ(world.delivery.take(other->client), to_other);
    CounterValues expected = counted;
    expected["current_connections"] = 2;
    expected["logins"] = 2;
    EXPECT_EQ(test::nonzero(world.counters), expected);
    static_cast<void>(world.router.remove(self->client));
    static_cast<void>(world.router.remove(other->client));
    EXPECT_EQ(world.counters.current_connections.get(), 0U);
    EXPECT_EQ(world.counters.current_home_connections.get(), 0U);
  }
}

TEST(Router, RelaysWhatStandsInFrontOfABrokenFrame) {
  World world;
  const auto self = world.connect(1);
  const auto other = world.connect(2);
  const Bytes data = plain_packet(20);
  EXPECT_FALSE(world.say(*self, concat({send_packet_frame(numbered_key(2), data),
                                        frame(FrameType::kPing, plain_packet(7)),
                                        send_packet_frame(numbered_key(2), data)})));
  EXPECT_EQ(world.delivery.take(other->client),
            std::vector<Bytes>{recv_packet_frame(numbered_key(1), data)});
}

TEST(Router, LeavesAPartialFrameForLater) {
  World world;
  const auto self = world.connect(1);
  const auto other = world.connect(2);
  const Bytes stream = concat({send_packet_frame(numbered_key(2), plain_packet(20)),
                               send_packet_frame(numbered_key(2), plain_packet(30))});
  std::span<const std::uint8_t> input = std::span(stream).first(80);
  ASSERT_TRUE(world.router.handle_input(self->client, self->splitter, input, world.now));
  EXPECT_EQ(input.size(), 80U - 57U);
  input = std::span(stream).subspan(57);
  ASSERT_TRUE(world.router.handle_input(self->client, self->splitter, input, world.now));
  world.outbox.flush();
  EXPECT_EQ(world.delivery.take(other->client).size(), 2U);
  EXPECT_EQ(world.counters.received[1].packets.get(), 2U);
}

TEST(Router, ServesOneDestinationPerPacketHoweverTheyAlternate) {
  World world;
  const auto source = world.connect(100);
  std::vector<std::unique_ptr<World::Peer>> peers;
  for (std::uint32_t i = 0; i < 10; ++i) peers.push_back(world.connect(i));
  Bytes stream;
  std::map<std::uint32_t, std::vector<Bytes>> expected;
  for (std::uint32_t i = 0; i < 500; ++i) {
    const std::uint32_t to = (i * i + i / 7) % 10;
    const Bytes packet = plain_packet(i, static_cast<std::uint8_t>(i));
    const Bytes sent = send_packet_frame(numbered_key(to), packet);
    stream.insert(stream.end(), sent.begin(), sent.end());
    expected[to].push_back(recv_packet_frame(numbered_key(100), packet));
  }
  ASSERT_TRUE(world.say(*source, stream));
  for (std::uint32_t i = 0; i < 10; ++i) {
    SCOPED_TRACE(i);
    EXPECT_TRUE(world.delivery.take(peers[i]->client) == expected[i]);
  }
}

TEST(Router, AnswersNotHereThreeTimesAtOnceThenOncePerSecond) {
  World world;
  const auto self = world.connect(1);
  const auto answers = [&](int packets) {
    std::size_t count = 0;
    for (int i = 0; i < packets; ++i) {
      // Different keys: the limit is per asking connection, not per target.
      world.say(*self, send_packet_frame(numbered_key(1000U + static_cast<std::uint32_t>(i)),
                                         disco_packet()));
      count += world.delivery.take(self->client).size();
    }
    return count;
  };
  EXPECT_EQ(answers(6), 3U);
  world.now += milliseconds(999);
  EXPECT_EQ(answers(6), 0U);
  world.now += milliseconds(1);
  EXPECT_EQ(answers(6), 1U);
  world.now += milliseconds(2500);
  EXPECT_EQ(answers(6), 2U);
  world.now += seconds(3600);
  EXPECT_EQ(answers(6), 3U) << "no more than the burst is saved up";
  EXPECT_EQ(world.counters
                .dropped[static_cast<std::size_t>(metrics::DropReason::kUnknownDest)]
                        [static_cast<std::size_t>(metrics::PacketKind::kDisco)]
                .packets.get(),
            30U)
      << "each one is counted";

  const auto another = world.connect(2);
  world.say(*another, send_packet_frame(numbered_key(1000), disco_packet()));
  EXPECT_EQ(world.delivery.take(another->client), std::vector<Bytes>{not_here(1000)});
}

TEST(Router, CountsMovesOfHomeAfterTheGraceOnly) {
  struct Case {
    std::string_view name;
    Duration after_login;
    std::vector<bool> notes;
    std::uint64_t moves_in;
    std::uint64_t moves_out;
    std::uint64_t home;
  };
  const Case cases[] = {
      {"at once", seconds(0), {true}, 0, 0, 1},
      {"just within the grace", seconds(5) - Duration(1), {true}, 0, 0, 1},
      {"at its end", seconds(5), {true}, 1, 0, 1},
      {"later", seconds(60), {true}, 1, 0, 1},
      {"there and back", seconds(60), {true, false}, 1, 1, 0},
      {"there and back within the grace", seconds(1), {true, false}, 0, 0, 0},
      {"the same again", seconds(60), {true, true, true}, 1, 0, 1},
      {"not home, as it was", seconds(60), {false}, 0, 0, 0},
  };
  for (const auto& [name, after_login, notes, moves_in, moves_out, home] : cases) {
    SCOPED_TRACE(name);
    World world;
    const auto self = world.connect(1);
    world.now += after_login;
    for (const bool preferred : notes)
      ASSERT_TRUE(world.say(*self, test::to_bytes(derp::encode_note_preferred(preferred))));
    EXPECT_EQ(world.counters.home_moves_in.get(), moves_in);
    EXPECT_EQ(world.counters.home_moves_out.get(), moves_out);
    EXPECT_EQ(world.counters.current_home_connections.get(), home);
    static_cast<void>(world.router.remove(self->client));
    EXPECT_EQ(world.counters.current_home_connections.get(), 0U);
    EXPECT_EQ(world.counters.home_moves_out.get(), moves_out) << "leaving is not moving";
  }
}

TEST(Router, CountsConnectionsThatDidNotGetTheirIdealNode) {
  World world;
  const auto ideal = world.connect(1);
  const auto not_ideal = world.connect(2, /*is_not_ideal=*/true);
  EXPECT_EQ(world.counters.current_connections.get(), 2U);
  EXPECT_EQ(world.counters.current_notideal_connections.get(), 1U);
  static_cast<void>(world.router.remove(not_ideal->client));
  EXPECT_EQ(world.counters.current_connections.get(), 1U);
  EXPECT_EQ(world.counters.current_notideal_connections.get(), 0U);
  static_cast<void>(world.router.remove(ideal->client));
  EXPECT_EQ(world.counters.current_connections.get(), 0U);
}

// --- Who hears of a departure

std::vector<ClientId> sorted(std::vector<ClientId> ids) {
  std::ranges::sort(ids);
  return ids;
}

TEST(RouterDeparture, NamesThoseWhoWereSentPacketsAndNobodyElse) {
  World world;
  const auto leaver = world.connect(1);
  const auto heard = world.connect(2);
  const auto heard_disco = world.connect(3);
  const auto spoke_to_it = world.connect(4);
  const auto bystander = world.connect(5);
  for (int i = 0; i < 3; ++i) {
    world.say(*leaver, send_packet_frame(numbered_key(2), plain_packet(10)));
    world.say(*leaver, send_packet_frame(numbered_key(3), disco_packet()));
    world.say(*leaver, send_packet_frame(numbered_key(99), disco_packet()));
    world.say(*spoke_to_it, send_packet_frame(numbered_key(1), plain_packet(10)));
  }
  const auto departure = world.router.remove(leaver->client);
  EXPECT_TRUE(departure.key_left);
  EXPECT_EQ(sorted(departure.delivered_to), sorted({heard->client.id(), heard_disco->client.id()}));

  const auto of_silent = world.router.remove(bystander->client);
  EXPECT_TRUE(of_silent.key_left);
  EXPECT_TRUE(of_silent.delivered_to.empty());
}

TEST(RouterDeparture, WaitsForTheLastDuplicateAndThenNamesTheReceiversOfAll) {
  World world;
  const auto first = world.connect(1);
  const auto heard_first = world.connect(2);
  const auto heard_second = world.connect(3);
  world.say(*first, send_packet_frame(numbered_key(2), plain_packet(10)));
  const auto second = world.connect(1);
  world.say(*second, send_packet_frame(numbered_key(3), plain_packet(10)));

  const auto early = world.router.remove(first->client);
  EXPECT_FALSE(early.key_left);
  EXPECT_TRUE(early.delivered_to.empty());
  const auto last = world.router.remove(second->client);
  EXPECT_TRUE(last.key_left);
  EXPECT_EQ(sorted(last.delivered_to),
            sorted({heard_first->client.id(), heard_second->client.id()}));
}

TEST(RouterDeparture, ANewConnectionOfAReceiverHasToHearFirst) {
  World world;
  const auto source = world.connect(1);
  auto receiver = world.connect(2);
  world.say(*source, send_packet_frame(numbered_key(2), plain_packet(10)));
  const ClientId old_id = receiver->client.id();
  static_cast<void>(world.router.remove(receiver->client));
  receiver = world.connect(2);
  EXPECT_TRUE(world.directory.find_ids({old_id}).empty());
  const auto departure = world.router.remove(source->client);
  for (const ClientId id : departure.delivered_to) EXPECT_NE(id, receiver->client.id());
}

TEST(RouterDeparture, ForgetsReceiversThatLeftLongAgo) {
  // A client that talks to many short-lived ones must not remember all of them.
  World world;
  const auto source = world.connect(1);
  const auto stays = world.connect(2);
  world.say(*source, send_packet_frame(numbered_key(2), plain_packet(1)));
  for (std::uint32_t i = 0; i < 5000; ++i) {
    const auto visitor = world.connect(10 + i);
    world.say(*source, send_packet_frame(numbered_key(10 + i), plain_packet(1)));
    static_cast<void>(world.router.remove(visitor->client));
    world.delivery.batches.clear();
  }
  const auto departure = world.router.remove(source->client);
  EXPECT_LE(departure.delivered_to.size(), 1024U);
  EXPECT_TRUE(std::ranges::count(departure.delivered_to, stays->client.id()) == 1);
}

// --- Duplicates

TEST(RouterDuplicates, WhicheverSpokeLastReceives) {
  World world;
  const auto sender = world.connect(9);
  const auto first = world.connect(1);
  const auto second = world.connect(1);
  const auto receiver = [&]() -> const Client* {
    world.say(*sender, send_packet_frame(numbered_key(1), plain_packet(1)));
    const bool to_first = !world.delivery.take(first->client).empty();
    const bool to_second = !world.delivery.take(second->client).empty();
    EXPECT_NE(to_first, to_second);
    return to_first ? &first->client : &second->client;
  };
  EXPECT_EQ(receiver(), &second->client) << "the newest";

  struct Case {
    std::string_view name;
    Bytes said;
  };
  const Case cases[] = {
      {"a packet", send_packet_frame(numbered_key(50), plain_packet(1))},
      {"a ping", frame(FrameType::kPing, plain_packet(8))},
      {"an unknown frame", frame(0xee)},
      {"a frame of the relay's direction", frame(FrameType::kKeepAlive)},
  };
  for (const auto& [name, said] : cases) {
    SCOPED_TRACE(name);
    world.say(*first, said);
    static_cast<void>(world.delivery.take(first->client));
    EXPECT_EQ(receiver(), &first->client);
    world.say(*second, said);
    static_cast<void>(world.delivery.take(second->client));
    EXPECT_EQ(receiver(), &second->client);
  }

  // A header alone is a sign of life; less than a header is not.
  const Bytes packet = send_packet_frame(numbered_key(50), plain_packet(40));
  std::span<const std::uint8_t> input = std::span(packet).first(derp::kFrameHeaderSize - 1);
  ASSERT_TRUE(world.router.handle_input(first->client, first->splitter, input, world.now));
  EXPECT_EQ(receiver(), &second->client);
  input = std::span(packet).first(derp::kFrameHeaderSize);
  ASSERT_TRUE(world.router.handle_input(first->client, first->splitter, input, world.now));
  EXPECT_EQ(receiver(), &first->client);
  // The rest of that frame brings no new header.
  world.say(*second, frame(FrameType::kKeepAlive));
  input = packet;
  ASSERT_TRUE(world.router.handle_input(first->client, first->splitter, input, world.now));
  world.outbox.flush();
  static_cast<void>(world.delivery.take(first->client));
  EXPECT_EQ(receiver(), &second->client);
}

TEST(RouterDuplicates, TheOthersStayAndAreServed) {
  World world;
  const auto first = world.connect(1);
  const auto second = world.connect(1);
  const auto other = world.connect(2);
  const Bytes ping = plain_packet(8);
  world.say(*first, frame(FrameType::kPing, ping));
  EXPECT_EQ(world.delivery.take(first->client), std::vector<Bytes>{frame(FrameType::kPong, ping)});
  world.say(*second, send_packet_frame(numbered_key(2), plain_packet(5)));
  world.say(*first, send_packet_frame(numbered_key(2), plain_packet(6)));
  EXPECT_EQ(world.delivery.take(other->client),
            (std::vector<Bytes>{recv_packet_frame(numbered_key(1), plain_packet(5)),
                                recv_packet_frame(numbered_key(1), plain_packet(6))}));
  EXPECT_EQ(world.counters.current_connections.get(), 3U);
}

// --- Mesh

/// A router with a mesh peer that logged in here, a link to another one, and a client there.
struct MeshWorld : World {
  static constexpr std::uint32_t kLocal = 2;
  static constexpr std::uint32_t kRemote = 3;

  MeshWorld() {
    Client::Identity identity;
    identity.key = numbered_key(901);
    identity.is_mesh_link = true;
    link.set_identity(identity);
    directory.add_mesh_key(link, numbered_key(kRemote));
    identity = {};
    identity.id = directory.next_id();
    identity.key = numbered_key(900);
    identity.is_mesh_peer = true;
    peer.client.set_identity(identity);
    static_cast<void>(router.add(peer.client));
  }
  ~MeshWorld() {
    static_cast<void>(router.remove(peer.client));
    static_cast<void>(directory.remove_mesh_link(link));
  }
  MeshWorld(const MeshWorld&) = delete;
  MeshWorld& operator=(const MeshWorld&) = delete;

  Client link;
  struct MeshPeer {
    Client client;
    FrameSplitter splitter{/*is_mesh_peer=*/true};
  };
  MeshPeer peer;

  bool peer_says(const Bytes& stream) {
    std::span<const std::uint8_t> input(stream);
    const auto handled = router.handle_input(peer.client, peer.splitter, input, now);
    outbox.flush();
    return handled.has_value();
  }
};

Bytes forward_frame(std::uint32_t source, std::uint32_t destination, const Bytes& packet) {
  return frame(FrameType::kForwardPacket,
               concat({test::to_bytes(numbered_key(source).bytes()),
                       test::to_bytes(numbered_key(destination).bytes()), packet}));
}

TEST(RouterMesh, ForwardsToTheLinkWhatNobodyHereTakes) {
  MeshWorld world;
  const auto self = world.connect(1);
  const auto local = world.connect(MeshWorld::kLocal);
  const Bytes data = plain_packet(148);
  const Bytes disco = disco_packet();
  EXPECT_TRUE(world.say(*self, concat({send_packet_frame(numbered_key(MeshWorld::kRemote), data),
                                       send_packet_frame(numbered_key(MeshWorld::kLocal), data),
                                       send_packet_frame(numbered_key(MeshWorld::kRemote), disco),
                                       send_packet_frame(numbered_key(MeshWorld::kRemote),
                                                         plain_packet(derp::kPacketSizeMax))})));
  const auto expected = std::vector<Bytes>{
      forward_frame(1, MeshWorld::kRemote, data), forward_frame(1, MeshWorld::kRemote, disco),
      forward_frame(1, MeshWorld::kRemote, plain_packet(derp::kPacketSizeMax))};
  relay::BatchStats stats;
  for (const auto& batch : world.delivery.batches) {
    if (batch.destination == &world.link) stats += batch.stats;
  }
  EXPECT_EQ(stats.frames, 0U) << "not a frame to a client";
  EXPECT_EQ(stats.forwarded[0].packets, 1U);
  EXPECT_EQ(stats.forwarded[1].packets, 2U);
  EXPECT_EQ(stats.forwarded[1].bytes, 148U + derp::kPacketSizeMax);
  EXPECT_EQ(world.delivery.take(world.link), expected);
  EXPECT_EQ(world.delivery.take(local->client),
            std::vector<Bytes>{recv_packet_frame(numbered_key(1), data)});
  EXPECT_EQ(world.counters.packets_forwarded_out.get(), 3U);
  EXPECT_EQ(world.counters.received[1].packets.get(), 3U);
  static_cast<void>(world.router.remove(self->client));
  static_cast<void>(world.router.remove(local->client));
}

TEST(RouterMesh, DeliversWhatAMeshPeerForwardsAndNeverForwardsItAgain) {
  MeshWorld world;
  const auto local = world.connect(MeshWorld::kLocal);
  const Bytes data = plain_packet(100);
  const Bytes disco = disco_packet();
  EXPECT_TRUE(world.peer_says(
      concat({forward_frame(7, MeshWorld::kLocal, data), forward_frame(8, MeshWorld::kLocal, disco),
              forward_frame(8, MeshWorld::kLocal, {}), forward_frame(7, MeshWorld::kRemote, data),
              forward_frame(7, 55, data), forward_frame(7, 55, disco)})));
  EXPECT_EQ(world.delivery.take(local->client),
            (std::vector<Bytes>{recv_packet_frame(numbered_key(7), data),
                                recv_packet_frame(numbered_key(8), disco),
                                recv_packet_frame(numbered_key(8), {})}));
  EXPECT_TRUE(world.delivery.take(world.link).empty()) << "one hop only";
  EXPECT_EQ(world.delivery.take(world.peer.client), std::vector<Bytes>{not_here(55)})
      << "disco alone is answered";
  CounterValues expected{{"packets_forwarded_in", 6},
                         {"unknown_dest_on_fwd other packets", 2},
                         {"unknown_dest_on_fwd other bytes", 200},
                         {"unknown_dest_on_fwd disco packets", 1},
                         {"unknown_dest_on_fwd disco bytes", 62},
                         {"current_connections", 2},
                         {"logins", 2}};
  EXPECT_EQ(test::nonzero(world.counters), expected);
  static_cast<void>(world.router.remove(local->client));
}

TEST(RouterMesh, AWholeRunOfForwardsKeepsLinksApartFromPacketsOfThePeerItself) {
  // A mesh peer that sends to a client of a third relay and forwards to it in one read: the former
  // goes over the link, the latter must not.
  MeshWorld world;
  const Bytes data = plain_packet(10);
  const Bytes send = send_packet_frame(numbered_key(MeshWorld::kRemote), data);
  EXPECT_TRUE(world.peer_says(concat({send, forward_frame(900, MeshWorld::kRemote, data), send})));
  EXPECT_EQ(world.delivery.take(world.link),
            (std::vector<Bytes>(2, forward_frame(900, MeshWorld::kRemote, data))));
  EXPECT_EQ(world.counters.packets_forwarded_in.get(), 1U);
  EXPECT_EQ(world.counters.packets_forwarded_out.get(), 2U);
}

TEST(RouterMesh, WhoGotAForwardedPacketIsToldOfTheDeparture) {
  MeshWorld world;
  const auto local = world.connect(MeshWorld::kLocal);
  EXPECT_TRUE(world.peer_says(forward_frame(MeshWorld::kRemote, MeshWorld::kLocal, {})));
  const auto departure =
      world.directory.remove_mesh_key(world.link, numbered_key(MeshWorld::kRemote));
  EXPECT_TRUE(departure.key_left);
  EXPECT_EQ(departure.delivered_to, std::vector<ClientId>{local->client.id()});
  static_cast<void>(world.router.remove(local->client));
}

TEST(RouterMesh, MeshRequestsAreForMeshPeersAlone) {
  const Bytes watch = frame(FrameType::kWatchConns);
  const Bytes close = frame(FrameType::kClosePeer, numbered_key(2).bytes());
  const Bytes forward = forward_frame(1, 2, plain_packet(3));
  for (const Bytes& request : {watch, close, forward}) {
    MeshWorld world;
    const auto self = world.connect(1);
    EXPECT_FALSE(world.say(*self, request)) << "type " << int{request[0]};
    EXPECT_TRUE(world.peer_says(request)) << "type " << int{request[0]};
    EXPECT_EQ(world.mesh.watches.size(), request == watch ? 1U : 0U);
    EXPECT_EQ(world.mesh.closed.size(), request == close ? 1U : 0U);
    EXPECT_EQ(world.counters.packets_forwarded_in.get(), request == forward ? 1U : 0U);
    static_cast<void>(world.router.remove(self->client));
  }
}

TEST(RouterMesh, HoldsMeshFramesToTheirSizes) {
  struct Case {
    std::string_view name;
    Bytes sent;
    bool accepted;
  };
  const Case cases[] = {
      {"forward without a whole key", frame(FrameType::kForwardPacket, plain_packet(63)), false},
      {"forward of nothing", frame(FrameType::kForwardPacket, plain_packet(64)), true},
      {"the largest forward", frame(FrameType::kForwardPacket, plain_packet(64 + 65'536)), true},
      {"one byte more", frame(FrameType::kForwardPacket, plain_packet(64 + 65'537)), false},
      {"watch with a payload", frame(FrameType::kWatchConns, plain_packet(1)), false},
      {"close without a whole key", frame(FrameType::kClosePeer, plain_packet(31)), false},
      {"close with more than a key", frame(FrameType::kClosePeer, plain_packet(33)), false},
  };
  for (const auto& [name, sent, accepted] : cases) {
    SCOPED_TRACE(name);
    MeshWorld world;
    EXPECT_EQ(world.peer_says(sent), accepted);
  }
}

}  // namespace
}  // namespace detour::relay
