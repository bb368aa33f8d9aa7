// Keys that mesh peers have, and mesh peers that watch.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "relay/directory.h"
#include "support/frames.h"
#include "support/relay_fakes.h"

namespace detour::relay {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using test::numbered_key;

class DirectoryMeshTest : public testing::Test {
 protected:
  std::unique_ptr<Client> make_client(std::uint32_t key_number) {
    auto client = std::make_unique<Client>();
    test::set_up(*client, directory_.next_id(), numbered_key(key_number));
    return client;
  }
  std::unique_ptr<Client> come(std::uint32_t key_number) {
    auto client = make_client(key_number);
    woken_ = directory_.add(*client);
    return client;
  }
  Directory::Departure leave(std::unique_ptr<Client> client) {
    auto departure = directory_.remove(*client);
    woken_ = departure.woken;
    quiescence_.retire(std::move(client));
    quiescence_.collect();
    return departure;
  }
  std::unique_ptr<Client> make_link(std::uint32_t key_number) {
    auto link = std::make_unique<Client>();
    Client::Identity identity;
    identity.id = directory_.next_id();
    identity.key = numbered_key(key_number);
    identity.is_mesh_link = true;
    link->set_identity(identity);
    return link;
  }
  std::unique_ptr<Client> come_mesh_peer(std::uint32_t key_number) {
    auto client = std::make_unique<Client>();
    Client::Identity identity;
    identity.id = directory_.next_id();
    identity.key = numbered_key(key_number);
    identity.is_mesh_peer = true;
    client->set_identity(identity);
    woken_ = directory_.add(*client);
    return client;
  }
  /// "+5 -6": the events that wait for a watcher, in order.
  std::string take(Client& watcher, std::size_t count_max = 1000) {
    std::vector<WatchEvent> events;
    const auto taken = directory_.take_watch_events(watcher, count_max, events);
    std::string text;
    for (const auto& event : events)
      text +=
          (event.present ? " +" : " -") + std::to_string(read_be32(event.key.bytes().first<4>()));
    if (taken.more) text += " ...";
    if (taken.fell_behind) text += " fell behind";
    return text;
  }
  static std::vector<ClientId> sorted(std::vector<ClientId> ids) {
    std::ranges::sort(ids);
    return ids;
  }

  Quiescence quiescence_{1};
  Directory directory_{quiescence_};
  Directory::Woken woken_;
  TimePoint now_ = TimePoint{} + std::chrono::hours(1);
};

TEST_F(DirectoryMeshTest, FindsTheLinkWhileNoConnectionHasTheKey) {
  const auto link = make_link(900);
  directory_.add_mesh_key(*link, numbered_key(1));
  EXPECT_EQ(directory_.find(numbered_key(1)), link.get());
  EXPECT_EQ(directory_.find(numbered_key(900)), nullptr) << "a link is no client";
  EXPECT_EQ(directory_.counts().keys, 0U);
  EXPECT_EQ(directory_.counts().remote_keys, 1U);

  auto client = come(1);
  EXPECT_EQ(directory_.find(numbered_key(1)), client.get()) << "our own always wins";
  EXPECT_EQ(directory_.counts().keys, 1U);
  EXPECT_EQ(directory_.counts().remote_keys, 0U);
  EXPECT_FALSE(leave(std::move(client)).key_left) << "it is still with the mesh peer";
  EXPECT_EQ(directory_.find(numbered_key(1)), link.get());

  EXPECT_TRUE(directory_.remove_mesh_key(*link, numbered_key(1)).key_left);
  EXPECT_EQ(directory_.find(numbered_key(1)), nullptr);
  EXPECT_EQ(directory_.counts().remote_keys, 0U);
}

TEST_F(DirectoryMeshTest, AConnectionOutlivesTheLink) {
  const auto link = make_link(900);
  auto client = come(1);
  directory_.add_mesh_key(*link, numbered_key(1));
  EXPECT_EQ(directory_.find(numbered_key(1)), client.get());
  EXPECT_FALSE(directory_.remove_mesh_key(*link, numbered_key(1)).key_left);
  EXPECT_EQ(directory_.find(numbered_key(1)), client.get());
  EXPECT_TRUE(leave(std::move(client)).key_left);
}

TEST_F(DirectoryMeshTest, UsesTheLinkThatHasTheKeyLongestAndCountsAsTheReferenceDoes) {
  const auto a = make_link(900);
  const auto b = make_link(901);
  const auto c = make_link(902);
  const auto key = numbered_key(1);
  const auto expect = [&](std::uint64_t seconds_, std::uint64_t lasts, std::uint64_t strange) {
    const auto counts = directory_.counts();
    EXPECT_EQ(counts.second_mesh_links, seconds_);
    EXPECT_EQ(counts.last_mesh_links, lasts);
    EXPECT_EQ(counts.strange_mesh_removals, strange);
  };
  directory_.add_mesh_key(*a, key);
  directory_.add_mesh_key(*a, key);
  expect(0, 0, 0);
  EXPECT_FALSE(directory_.remove_mesh_key(*b, key).key_left) << "it never had it";
  expect(0, 0, 1);
  directory_.add_mesh_key(*b, key);
  expect(1, 0, 1);
  directory_.add_mesh_key(*c, key);
  expect(1, 0, 1);
  EXPECT_EQ(directory_.find(key), a.get());
  static_cast<void>(directory_.remove_mesh_key(*b, key));
  static_cast<void>(directory_.remove_mesh_key(*b, key));
  expect(1, 0, 1);
  directory_.add_mesh_key(*b, key);
  EXPECT_FALSE(directory_.remove_mesh_key(*a, key).key_left);
  EXPECT_EQ(directory_.find(key), c.get()) << "b came back behind c";
  expect(1, 0, 1);
  static_cast<void>(directory_.remove_mesh_key(*c, key));
  EXPECT_EQ(directory_.find(key), b.get());
  expect(1, 1, 1);
  EXPECT_TRUE(directory_.remove_mesh_key(*b, key).key_left);
  static_cast<void>(directory_.remove_mesh_key(*b, key));
  expect(1, 1, 1);

  auto local = come(2);
  static_cast<void>(directory_.remove_mesh_key(*a, numbered_key(2)));
  expect(1, 1, 2);
  leave(std::move(local));
}

TEST_F(DirectoryMeshTest, ALinkThatEndsTakesItsKeysAlong) {
  const auto a = make_link(900);
  const auto b = make_link(901);
  auto local = come(3);
  for (const std::uint32_t number : {1U, 2U, 3U}) directory_.add_mesh_key(*a, numbered_key(number));
  directory_.add_mesh_key(*b, numbered_key(2));
  auto departures = directory_.remove_mesh_link(*a);
  ASSERT_EQ(departures.size(), 1U) << "2 is with the other, 3 is here";
  EXPECT_EQ(departures[0].key, numbered_key(1));
  EXPECT_EQ(directory_.find(numbered_key(1)), nullptr);
  EXPECT_EQ(directory_.find(numbered_key(2)), b.get());
  EXPECT_EQ(directory_.find(numbered_key(3)), local.get());
  EXPECT_TRUE(directory_.remove_mesh_link(*a).empty());
  EXPECT_EQ(directory_.remove_mesh_link(*b).size(), 1U);
  leave(std::move(local));
  EXPECT_EQ(directory_.counts().remote_keys, 0U);
}

TEST_F(DirectoryMeshTest, WhoGotForwardedPacketsHearsWhenTheSourceLeavesTheRegion) {
  const auto link = make_link(900);
  const auto peer = come_mesh_peer(901);
  const auto x = come(10);
  const auto y = come(11);
  const auto source = numbered_key(1);
  directory_.add_mesh_key(*link, source);
  directory_.note_forwarded(*peer, source, *x, now_);
  directory_.note_forwarded(*peer, source, *x, now_);
  directory_.note_forwarded(*peer, source, *y, now_);
  directory_.note_forwarded(*peer, numbered_key(2), *y, now_);
  auto departure = directory_.remove_mesh_key(*link, source);
  EXPECT_TRUE(departure.key_left);
  EXPECT_EQ(sorted(departure.delivered_to), (std::vector<ClientId>{x->id(), y->id()}));

  // It comes back, and is told of again once what was noted has been forgotten.
  directory_.add_mesh_key(*link, source);
  directory_.note_forwarded(*peer, source, *x, now_ + seconds(1));
  departure = directory_.remove_mesh_key(*link, source);
  EXPECT_EQ(departure.delivered_to, std::vector<ClientId>{x->id()});
}

TEST_F(DirectoryMeshTest, WhoMovedBetweenRelaysLeavesOnlyWhenItIsNowhere) {
  const auto link = make_link(900);
  const auto peer = come_mesh_peer(901);
  const auto x = come(10);
  const auto source = numbered_key(1);
  directory_.note_forwarded(*peer, source, *x, now_);  // Before we were told that it is there.
  directory_.add_mesh_key(*link, source);
  auto local = come(1);
  EXPECT_FALSE(directory_.remove_mesh_key(*link, source).key_left);
  const auto departure = leave(std::move(local));
  EXPECT_TRUE(departure.key_left);
  EXPECT_EQ(departure.delivered_to, std::vector<ClientId>{x->id()});
}

TEST_F(DirectoryMeshTest, ForwardedPairsAreBoundedAndThoseOfAbsentClientsMakeRoom) {
  const auto peer = come_mesh_peer(901);
  const auto link = make_link(900);
  auto gone = come(10);
  auto present = come(11);
  constexpr auto kMax = static_cast<std::uint32_t>(Directory::kForwardedPairsMax);
  for (std::uint32_t i = 0; i < kMax; ++i)
    directory_.note_forwarded(*peer, numbered_key(1'000'000 + i), *gone, now_);
  const auto told_of = [&](std::uint32_t number) {
    directory_.add_mesh_key(*link, numbered_key(number));
    return directory_.remove_mesh_key(*link, numbered_key(number)).delivered_to.size();
  };
  EXPECT_EQ(told_of(1'000'000 + kMax - 1), 1U) << "the last one within the bound";
  directory_.note_forwarded(*peer, numbered_key(5), *present, now_);
  directory_.note_forwarded(*peer, numbered_key(6), *present, now_);
  EXPECT_EQ(told_of(6), 0U) << "one beyond it";
  EXPECT_EQ(told_of(5), 1U);
  directory_.note_forwarded(*peer, numbered_key(8), *present, now_);
  leave(std::move(gone));
  directory_.note_forwarded(*peer, numbered_key(7), *present, now_);
  EXPECT_EQ(told_of(7), 1U) << "those of the client that left made room";
}

TEST_F(DirectoryMeshTest, TellsWatchersWhoIsHereThenWhoComesAndLeaves) {
  auto a = come(1);
  auto b = come(2);
  const auto watcher = come_mesh_peer(901);
  EXPECT_EQ(take(*watcher), "") << "it did not ask";
  directory_.watch(*watcher);
  EXPECT_EQ(directory_.counts().watchers, 1U);
  std::string flood = take(*watcher);
  for (const char* each : {" +1", " +2", " +901"})
    EXPECT_NE(flood.find(each), std::string::npos) << flood;
  EXPECT_EQ(flood.size(), std::string(" +1 +2 +901").size());

  auto c = come(3);
  EXPECT_EQ(woken_, Directory::Woken{watcher.get()});
  auto c2 = come(3);
  EXPECT_TRUE(woken_.empty()) << "events wait already";
  leave(std::move(c));
  leave(std::move(a));
  EXPECT_EQ(take(*watcher), " +3 +3 -1") << "one more connection is told, one less is not";
  leave(std::move(c2));
  EXPECT_EQ(woken_, Directory::Woken{watcher.get()});
  EXPECT_EQ(take(*watcher), " -3");
  EXPECT_EQ(take(*watcher), "");

  directory_.watch(*watcher);
  EXPECT_TRUE(take(*watcher, 1).ends_with(" ...")) << "2 and 901 come again";
  EXPECT_TRUE(take(*watcher, 1).starts_with(" +"));
  EXPECT_EQ(take(*watcher, 1), "");
  EXPECT_EQ(directory_.counts().watchers, 1U) << "asking twice is no second watcher";
  leave(std::move(b));
}

TEST_F(DirectoryMeshTest, KeysOfMeshPeersAreNotToldToWatchers) {
  const auto link = make_link(900);
  const auto watcher = come_mesh_peer(901);
  directory_.watch(*watcher);
  directory_.add_mesh_key(*link, numbered_key(1));
  static_cast<void>(directory_.remove_mesh_link(*link));
  EXPECT_EQ(take(*watcher), " +901");
}

TEST_F(DirectoryMeshTest, EventsCarryAddressFlagsAndAppName) {
  struct Case {
    const char* name;
    bool prober, mesh_peer, not_ideal;
    std::uint8_t flags;
  };
  constexpr Case kCases[] = {{"regular", false, false, false, 1},
                             {"prober", true, false, false, 4},
                             {"mesh", false, true, false, 2},
                             {"not ideal", false, false, true, 8},
                             {"all", true, true, true, 14}};
  const auto watcher = come_mesh_peer(901);
  directory_.watch(*watcher);
  static_cast<void>(take(*watcher));
  std::uint32_t number = 0;
  for (const auto& [name, prober, mesh_peer, not_ideal, flags] : kCases) {
    SCOPED_TRACE(name);
    auto client = make_client(++number);
    Client::Identity identity = client->identity();
    identity.is_prober = prober;
    identity.is_mesh_peer = mesh_peer;
    identity.is_not_ideal = not_ideal;
    identity.app_name = std::string(derp::kAppNameSizeMax, 'n');
    identity.address[15] = 7;
    identity.port = 4711;
    client->set_identity(identity);
    static_cast<void>(directory_.add(*client));
    std::vector<WatchEvent> events;
    static_cast<void>(directory_.take_watch_events(*watcher, 10, events));
    ASSERT_EQ(events.size(), 1U);
    EXPECT_TRUE(events[0].present);
    EXPECT_EQ(events[0].flags, flags);
    EXPECT_EQ(events[0].address[15], 7);
    EXPECT_EQ(events[0].port, 4711);
    EXPECT_EQ(events[0].app_name_size, derp::kAppNameSizeMax);
    EXPECT_EQ(events[0].app_name.back(), 'n');
    static_cast<void>(directory_.remove(*client));
    static_cast<void>(take(*watcher));
  }
}

TEST_F(DirectoryMeshTest, AWatcherThatLeavesIsToldNothingMore) {
  auto watcher = come_mesh_peer(901);
  const auto other = come_mesh_peer(902);
  directory_.watch(*watcher);
  directory_.watch(*other);
  static_cast<void>(take(*other));
  leave(std::move(watcher));
  EXPECT_EQ(directory_.counts().watchers, 1U);
  EXPECT_EQ(take(*other), " -901");
}

TEST_F(DirectoryMeshTest, AWatcherTooFarBehindHasToBeginAnew) {
  constexpr std::size_t kHere = 1000;
  static_assert(Directory::kWatchEventsMax % kHere == 0);
  const auto watcher = come_mesh_peer(901);
  std::vector<std::unique_ptr<Client>> residents;
  while (residents.size() < kHere - 1)
    residents.push_back(come(static_cast<std::uint32_t>(10'000 + residents.size())));
  // Asked again and again, all are told again and again.
  for (std::size_t i = 0; i < Directory::kWatchEventsMax / kHere; ++i) directory_.watch(*watcher);
  EXPECT_TRUE(take(*watcher, 1).ends_with(" ...")) << "the bound itself is kept";
  auto one = come(2001);
  EXPECT_TRUE(woken_.empty());
  EXPECT_EQ(take(*watcher, 0), " ...");
  auto too_many = come(2002);
  EXPECT_EQ(woken_, Directory::Woken{watcher.get()}) << "its worker has to close it";
  EXPECT_EQ(take(*watcher), " fell behind");
  leave(std::move(one));
  leave(std::move(too_many));
  EXPECT_EQ(take(*watcher), " fell behind");
  for (auto& resident : residents) leave(std::move(resident));
}

TEST_F(DirectoryMeshTest, FindsAllConnectionsOfAKey) {
  EXPECT_TRUE(directory_.connections_of(numbered_key(1)).empty());
  const auto link = make_link(900);
  directory_.add_mesh_key(*link, numbered_key(1));
  EXPECT_TRUE(directory_.connections_of(numbered_key(1)).empty()) << "a link is none";
  auto a = come(1);
  auto b = come(1);
  EXPECT_EQ(directory_.connections_of(numbered_key(1)), (std::vector<Client*>{a.get(), b.get()}));
  leave(std::move(a));
  leave(std::move(b));
  static_cast<void>(directory_.remove_mesh_link(*link));
}

// Links come and go with their keys, clients with the same keys log in and out, a watcher takes its
// events, while workers look keys up. ThreadSanitizer and AddressSanitizer check that what find()
// gives lives on within the turn; the test checks that the watcher's events add up.
TEST(DirectoryMeshConcurrency, LinksClientsAndWatchersChangeUnderTheReaders) {
  static constexpr std::uint64_t kAlive = 0x5ca1'ab1e'5ca1'ab1e;
  static constexpr std::uint32_t kKeys = 300;
  static constexpr int kRounds = 60;
  struct Marked final : Client {
    Marked() = default;
    Marked(const Marked&) = delete;
    Marked& operator=(const Marked&) = delete;
    ~Marked() override { mark = 0; }
    std::uint64_t mark = kAlive;
  };
  enum : std::size_t { kReader, kLinkA, kLinkB, kClients, kWatcher, kThreads };

  Quiescence quiescence(kThreads);
  Directory directory(quiescence);
  std::atomic<int> writers_left{3};
  std::atomic<int> broken{0};
  std::atomic<int> over_links{0};

  Marked watcher;
  {
    Client::Identity identity;
    identity.id = directory.next_id();
    identity.key = numbered_key(9999);
    identity.is_mesh_peer = true;
    watcher.set_identity(identity);
    static_cast<void>(directory.add(watcher));
    directory.watch(watcher);
  }

  std::vector<std::thread> threads;
  threads.emplace_back([&] {
    std::uint32_t state = 1;
    while (writers_left.load() != 0) {
      quiescence.online(kReader);
      std::array<const Client*, 64> seen{};
      for (auto& client : seen) {
        state = state * 1664525U + 1013904223U;
        client = directory.find(numbered_key((state >> 8U) % kKeys));
      }
      for (const Client* const client : seen) {
        if (client == nullptr) continue;
        if (client->identity().is_mesh_link) over_links.fetch_add(1, std::memory_order_relaxed);
        if (static_cast<const Marked*>(client)->mark != kAlive) broken.fetch_add(1);
      }
      quiescence.offline(kReader);
      quiescence.collect();
    }
  });
  for (const std::size_t index : {std::size_t{kLinkA}, std::size_t{kLinkB}}) {
    threads.emplace_back([&, index] {
      std::uint32_t state = static_cast<std::uint32_t>(index);
      for (int round = 0; round < kRounds; ++round) {
        quiescence.online(index);
        auto link = std::make_unique<Marked>();
        Client::Identity identity;
        identity.id = directory.next_id();
        identity.key = numbered_key(8000 + static_cast<std::uint32_t>(index));
        identity.is_mesh_link = true;
        link->set_identity(identity);
        for (std::uint32_t number = 0; number < kKeys; ++number) {
          directory.add_mesh_key(*link, numbered_key(number));
          state = state * 1664525U + 1013904223U;
          if (state % 3 == 0)
            static_cast<void>(
                directory.remove_mesh_key(*link, numbered_key((state >> 8U) % (number + 1))));
        }
        static_cast<void>(directory.remove_mesh_link(*link));
        quiescence.retire(std::move(link));
        quiescence.offline(index);
        quiescence.collect();
      }
      writers_left.fetch_sub(1);
    });
  }
  int connections_made = 0;
  threads.emplace_back([&] {
    for (int round = 0; round < 2 * kRounds; ++round) {
      std::vector<std::unique_ptr<Marked>> mine;
      quiescence.online(kClients);
      for (std::uint32_t number = 0; number < kKeys; number += 3) {
        auto client = std::make_unique<Marked>();
        test::set_up(*client, directory.next_id(), numbered_key(number));
        static_cast<void>(directory.add(*client));
        directory.note_forwarded(watcher, numbered_key(number + 1), *client,
                                 TimePoint{} + seconds(round));
        mine.push_back(std::move(client));
        ++connections_made;
      }
      for (auto& client : mine) {
        static_cast<void>(directory.remove(*client));
        quiescence.retire(std::move(client));
      }
      quiescence.offline(kClients);
      quiescence.collect();
    }
    writers_left.fetch_sub(1);
  });
  int came = 0;
  int left = 0;
  threads.emplace_back([&] {
    std::vector<WatchEvent> events;
    for (bool last = false; !last;) {
      last = writers_left.load() == 0;  // Everything was told before.
      bool more = true;
      while (more) {
        events.clear();
        quiescence.online(kWatcher);
        more = directory.take_watch_events(watcher, 16, events).more;
        quiescence.offline(kWatcher);
        for (const auto& event : events) {
          if (event.key == watcher.key()) continue;
          ++(event.present ? came : left);
          if (left > came) broken.fetch_add(1);
        }
      }
    }
  });
  for (std::thread& thread : threads) thread.join();

  EXPECT_EQ(broken.load(), 0);
  EXPECT_GT(over_links.load(), 0) << "the reader must have met links at all";
  EXPECT_EQ(came, connections_made);
  EXPECT_EQ(left, connections_made);
  static_cast<void>(directory.remove(watcher));
  EXPECT_EQ(directory.counts().keys, 0U);
  EXPECT_EQ(directory.counts().remote_keys, 0U);
  quiescence.collect();
  EXPECT_FALSE(quiescence.has_pending());
}

}  // namespace
}  // namespace detour::relay
