#include "relay/directory.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "support/frames.h"
#include "support/relay_fakes.h"

namespace detour::relay {
namespace {

using test::numbered_key;

class DirectoryTest : public testing::Test {
 protected:
  std::unique_ptr<Client> make_client(std::uint32_t key_number) {
    auto client = std::make_unique<Client>();
    test::set_up(*client, directory_.next_id(), numbered_key(key_number));
    return client;
  }
  /// Takes a client out and destroys it, as its worker does.
  Directory::Departure leave(std::unique_ptr<Client> client) {
    auto departure = directory_.remove(*client);
    quiescence_.retire(std::move(client));
    quiescence_.collect();
    return departure;
  }

  Quiescence quiescence_{1};
  Directory directory_{quiescence_};
};

TEST_F(DirectoryTest, FindsWhoIsThereAndNobodyElse) {
  EXPECT_EQ(directory_.find(numbered_key(1)), nullptr);
  EXPECT_EQ(directory_.find(crypto::NodePublic{}), nullptr);
  auto client = make_client(1);
  EXPECT_EQ(directory_.find(numbered_key(1)), nullptr) << "not before add()";
  static_cast<void>(directory_.add(*client));
  EXPECT_EQ(directory_.find(numbered_key(1)), client.get());
  EXPECT_EQ(directory_.find(numbered_key(2)), nullptr);
  EXPECT_EQ(directory_.find(crypto::NodePublic{}), nullptr);

  EXPECT_TRUE(leave(std::move(client)).key_left);
  EXPECT_EQ(directory_.find(numbered_key(1)), nullptr);
  EXPECT_FALSE(quiescence_.has_pending());

  auto again = make_client(1);
  static_cast<void>(directory_.add(*again));
  EXPECT_EQ(directory_.find(numbered_key(1)), again.get());
  leave(std::move(again));
}

TEST_F(DirectoryTest, TakesAZeroKeyForAKeyLikeAnyOther) {
  // Logins with it are refused; the directory must not confuse it with an empty slot.
  Client client;
  test::set_up(client, directory_.next_id(), crypto::NodePublic{});
  static_cast<void>(directory_.add(client));
  EXPECT_EQ(directory_.find(crypto::NodePublic{}), &client);
  EXPECT_TRUE(directory_.remove(client).key_left);
}

TEST_F(DirectoryTest, HoldsAHundredThousandKeys) {
  constexpr std::uint32_t kKeys = 100'000;
  std::vector<std::unique_ptr<Client>> clients;
  for (std::uint32_t i = 0; i < kKeys; ++i) {
    clients.push_back(make_client(i));
    static_cast<void>(directory_.add(*clients.back()));
  }
  quiescence_.collect();  // The tables that were outgrown.
  EXPECT_EQ(directory_.counts().keys, kKeys);
  EXPECT_EQ(directory_.counts().connections, kKeys);
  EXPECT_EQ(directory_.counts().duplicate_keys, 0U);
  for (std::uint32_t i = 0; i < kKeys; ++i)
    ASSERT_EQ(directory_.find(numbered_key(i)), clients[i].get()) << i;
  for (std::uint32_t i = 0; i < 1000; ++i)
    ASSERT_EQ(directory_.find(numbered_key(kKeys + i)), nullptr) << i;

  for (std::uint32_t i = 0; i < kKeys; i += 2) leave(std::move(clients[i]));
  for (std::uint32_t i = 0; i < kKeys; ++i)
    ASSERT_EQ(directory_.find(numbered_key(i)), clients[i].get()) << i;
  EXPECT_EQ(directory_.counts().keys, kKeys / 2);
  for (auto& client : clients) {
    if (client) leave(std::move(client));
  }
  EXPECT_EQ(directory_.counts().keys, 0U);
  EXPECT_FALSE(quiescence_.has_pending());
}

TEST_F(DirectoryTest, KeysThatComeAndGoDoNotWearTheTableOut) {
  // Each departure leaves a mark in the table that searches step over; the marks have to go, or
  // there would be no free place left to end a search.
  std::vector<std::unique_ptr<Client>> residents;
  for (std::uint32_t i = 0; i < 300; ++i) {
    residents.push_back(make_client(i));
    static_cast<void>(directory_.add(*residents.back()));
  }
  for (std::uint32_t i = 0; i < 50'000; ++i) {
    auto visitor = make_client(1000 + i);
    static_cast<void>(directory_.add(*visitor));
    ASSERT_EQ(directory_.find(numbered_key(1000 + i)), visitor.get());
    leave(std::move(visitor));
    ASSERT_EQ(directory_.find(numbered_key(1000 + i)), nullptr);
  }
  for (std::uint32_t i = 0; i < 300; ++i)
    ASSERT_EQ(directory_.find(numbered_key(i)), residents[i].get());
  for (auto& resident : residents) leave(std::move(resident));
}

TEST_F(DirectoryTest, DuplicatesShareAKeyByTheLastWriterPolicy) {
  // Connections a, b, ... of one key: + connects, - leaves, ! speaks. Behind each step: who
  // receives. As server-behaviour, "Registry and duplicate keys", has it: the newest connection
  // receives, then whoever spoke last; when the receiver leaves, its heir is the last one of the
  // history, which the second connection of a key only enters by speaking.
  struct Case {
    std::string_view name;
    std::string_view steps;
    std::string_view receivers;
  };
  constexpr Case kCases[] = {
      {"alone", "+a !a -a", "aa."},
      {"the newest wins", "+a +b +c", "abc"},
      {"the last speaker wins", "+a +b !a !b !b !a", "ababba"},
      {"the newer one leaves", "+a +b -b", "aba"},
      {"the older one leaves", "+a +b -a", "abb"},
      {"the receiver leaves after it spoke", "+a +b !a -a", "abab"},
      {"another one than the receiver leaves", "+a +b +c -b -a", "abccc"},
      {"the silent second one is no heir", "+a +b +c -c", "abca"},
      {"the second one is heir once it spoke", "+a +b !b +c -c", "abbcb"},
      {"heirs in the order in which they spoke", "+a +b +c +d !b !d !a -a -d -b", "abcdbdadbc"},
      {"speaking again moves to the end", "+a +b +c !a !b !a -a -b",
       "abcabab"
       "c"},
      {"the last one left receives in any case", "+a +b +c -c -a", "abcab"},
      {"a survivor starts over", "+a +b !a -a +c -c", "ababcb"},
      {"all leave, another comes", "+a +b -a -b +c", "abb.c"},
      {"three, then down to none", "+a +b +c -a -b -c", "abccc."},
  };
  for (const auto& [name, steps, receivers] : kCases) {
    SCOPED_TRACE(name);
    std::map<char, std::unique_ptr<Client>> clients;
    std::size_t step = 0;
    for (std::size_t at = 0; at < steps.size(); at += 3, ++step) {
      SCOPED_TRACE(steps.substr(0, at + 2));
      const char who = steps[at + 1];
      switch (steps[at]) {
        case '+':
          clients[who] = make_client(77);
          static_cast<void>(directory_.add(*clients[who]));
          break;
        case '-': {
          const auto departure = leave(std::move(clients[who]));
          clients.erase(who);
          EXPECT_EQ(departure.key_left, clients.empty()) << "only the last one takes the key along";
          break;
        }
        default:
          directory_.spoke(*clients[who]);
      }
      ASSERT_LT(step, receivers.size());
      const char wanted = receivers[step];
      Client* const found = directory_.find(numbered_key(77));
      if (wanted == '.') {
        EXPECT_EQ(found, nullptr);
      } else {
        ASSERT_TRUE(clients.contains(wanted));
        EXPECT_EQ(found, clients[wanted].get());
      }
    }
    EXPECT_EQ(step, receivers.size());
    for (auto& [who, client] : clients) leave(std::move(client));
  }
}

TEST_F(DirectoryTest, CountsDuplicatesAsTheReferenceDoes) {
  std::vector<std::unique_ptr<Client>> same;
  const auto expect = [&](std::size_t keys, std::size_t connections, std::uint64_t total) {
    const auto counts = directory_.counts();
    EXPECT_EQ(counts.duplicate_keys, keys);
    EXPECT_EQ(counts.duplicate_connections, connections);
    EXPECT_EQ(counts.duplicate_connections_total, total);
  };
  const auto come = [&] {
    same.push_back(make_client(5));
    static_cast<void>(directory_.add(*same.back()));
  };
  const auto go = [&] {
    leave(std::move(same.back()));
    same.pop_back();
  };
  come();
  expect(0, 0, 0);
  come();
  expect(1, 2, 1);
  come();
  expect(1, 3, 2);
  EXPECT_EQ(directory_.counts().keys, 1U);
  EXPECT_EQ(directory_.counts().connections, 3U);
  auto other = make_client(6);
  static_cast<void>(directory_.add(*other));
  expect(1, 3, 2);
  go();
  expect(1, 2, 2);
  go();
  expect(0, 0, 2);
  come();
  expect(1, 2, 3);
  go();
  go();
  expect(0, 0, 3);
  leave(std::move(other));
  EXPECT_EQ(directory_.counts().connections, 0U);
}

TEST_F(DirectoryTest, FindsConnectionsByIdWhileTheyAreThere) {
  auto first = make_client(1);
  auto second = make_client(1);
  auto third = make_client(2);
  static_cast<void>(directory_.add(*first));
  static_cast<void>(directory_.add(*second));
  static_cast<void>(directory_.add(*third));
  const std::vector<ClientId> ids = {first->id(), second->id(), third->id(), 9999};
  EXPECT_EQ(directory_.find_ids(ids),
            (std::vector<Client*>{first.get(), second.get(), third.get()}));
  EXPECT_TRUE(directory_.find_ids({}).empty());

  std::unordered_set<ClientId> kept(ids.begin(), ids.end());
  const ClientId gone = second->id();
  leave(std::move(second));
  EXPECT_EQ(directory_.find_ids(ids), (std::vector<Client*>{first.get(), third.get()}));
  directory_.keep_present(kept);
  EXPECT_EQ(kept, (std::unordered_set<ClientId>{first->id(), third->id()}));
  EXPECT_NE(directory_.next_id(), gone);
  leave(std::move(first));
  leave(std::move(third));
}

// Workers look keys up while others log in and out, also with the same keys. ThreadSanitizer checks
// that what find() gives is not destroyed within the turn.
TEST(DirectoryConcurrency, FindNeverGivesAClientThatIsGone) {
  static constexpr std::uint64_t kAlive = 0x5ca1'ab1e'5ca1'ab1e;
  static constexpr std::size_t kReaders = 2;
  static constexpr std::size_t kWriters = 2;
  static constexpr std::uint32_t kSharedKeys = 4;
  static constexpr std::uint32_t kOwnKeys = 600;  // Enough to make the table grow under way.
  static constexpr int kCyclesPerWriter = 4000;

  struct MarkedClient final : Client {
    MarkedClient() = default;
    MarkedClient(const MarkedClient&) = delete;
    MarkedClient& operator=(const MarkedClient&) = delete;
    ~MarkedClient() override { mark = 0; }
    std::uint64_t mark = kAlive;
  };

  // The writers are workers as well: they are online while they add and remove.
  Quiescence quiescence(kReaders + kWriters);
  Directory directory(quiescence);
  std::atomic<std::size_t> writers_left{kWriters};
  std::atomic<int> broken{0};
  std::atomic<int> found{0};

  std::vector<std::thread> threads;
  for (std::size_t reader = 0; reader < kReaders; ++reader) {
    threads.emplace_back([&, reader] {
      std::uint32_t state = static_cast<std::uint32_t>(reader) + 1;
      while (writers_left.load() != 0) {
        quiescence.online(reader);
        std::array<const Client*, 32> seen{};
        for (auto& client : seen) {
          state = state * 1664525U + 1013904223U;
          const auto key = numbered_key((state >> 8U) % (kSharedKeys + kWriters * kOwnKeys));
          client = directory.find(key);
          if (client != nullptr && client->key() != key) broken.fetch_add(1);
        }
        for (const Client* client : seen) {
          if (client == nullptr) continue;
          found.fetch_add(1, std::memory_order_relaxed);
          if (static_cast<const MarkedClient*>(client)->mark != kAlive) broken.fetch_add(1);
        }
        quiescence.offline(reader);
        quiescence.collect();
      }
    });
  }
  for (std::size_t writer = 0; writer < kWriters; ++writer) {
    threads.emplace_back([&, writer] {
      const std::size_t index = kReaders + writer;
      std::uint32_t state = static_cast<std::uint32_t>(writer) + 77;
      std::vector<std::unique_ptr<MarkedClient>> mine;
      for (int cycle = 0; cycle < kCyclesPerWriter; ++cycle) {
        quiescence.online(index);
        state = state * 1664525U + 1013904223U;
        const std::uint32_t choice = (state >> 8U) % 100;
        if (mine.empty() || choice < 55) {
          const std::uint32_t number =
              choice < 15 ? choice % kSharedKeys
                          : kSharedKeys + static_cast<std::uint32_t>(writer) * kOwnKeys +
                                (state >> 12U) % kOwnKeys;
          auto client = std::make_unique<MarkedClient>();
          test::set_up(*client, directory.next_id(), numbered_key(number));
          static_cast<void>(directory.add(*client));
          mine.push_back(std::move(client));
        } else if (choice < 70) {
          directory.spoke(*mine[state % mine.size()]);
        } else {
          std::swap(mine[state % mine.size()], mine.back());
          static_cast<void>(directory.remove(*mine.back()));
          quiescence.retire(std::move(mine.back()));
          mine.pop_back();
        }
        quiescence.offline(index);
        quiescence.collect();
      }
      for (auto& client : mine) {
        static_cast<void>(directory.remove(*client));
        quiescence.retire(std::move(client));
      }
      writers_left.fetch_sub(1);
    });
  }
  for (std::thread& thread : threads) thread.join();

  EXPECT_EQ(broken.load(), 0);
  EXPECT_GT(found.load(), 0) << "the test must have met clients at all";
  EXPECT_EQ(directory.counts().connections, 0U);
  EXPECT_EQ(directory.counts().keys, 0U);
  EXPECT_EQ(directory.counts().duplicate_connections, 0U);
  quiescence.collect();
  EXPECT_FALSE(quiescence.has_pending());
}

}  // namespace
}  // namespace detour::relay
