// A program of its own: OpenSSL takes its allocator only before it allocates anything.

#include "net/tls_memory.h"

#include <gtest/gtest.h>
#include <openssl/crypto.h>

#include <array>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "net/tls_peer.h"

namespace detour::net {
namespace {

const bool kInstalled = install_tls_memory();

constexpr std::size_t kRecord = 16 * 1024 + 700;

void* take(std::size_t size) {
  return CRYPTO_malloc(size, "test", 0);
}
void give(void* block) {
  CRYPTO_free(block, "test", 0);
}

TEST(TlsMemory, IsTakenBeforeOpenSslAllocates) {
  EXPECT_TRUE(kInstalled);
}

TEST(TlsMemory, GivesARecordBufferAgainToTheSameThread) {
  void* const block = take(kRecord);
  std::memset(block, 1, kRecord);
  give(block);
  // Any size of a record buffer: they share one shelf.
  for (const std::size_t size : {std::size_t{16 * 1024}, kRecord, std::size_t{18 * 1024}}) {
    SCOPED_TRACE(size);
    void* const again = take(size);
    EXPECT_EQ(again, block);
    std::memset(again, 2, size);
    give(again);
  }
}

TEST(TlsMemory, GivesTheNotesOfARecordAgainToo) {
  void* const first = take(40);
  void* const second = take(40);
  EXPECT_NE(first, second);
  std::memset(first, 1, 40);
  std::memset(second, 2, 40);
  give(first);
  give(second);
  EXPECT_EQ(take(25), second);
  EXPECT_EQ(take(40), first);
  give(first);
  give(second);
}

TEST(TlsMemory, LeavesOtherSizesAlone) {
  void* const record = take(kRecord);
  give(record);
  for (const std::size_t size :
       {std::size_t{1}, std::size_t{16 * 1024 - 1}, std::size_t{19 * 1024}}) {
    SCOPED_TRACE(size);
    void* const other = take(size);
    EXPECT_NE(other, record);
    std::memset(other, 3, size);
    give(other);
  }
  EXPECT_EQ(take(0), nullptr);
  give(nullptr);
  void* const again = take(kRecord);
  EXPECT_EQ(again, record);
  give(again);
}

TEST(TlsMemory, NeverLendsABlockTwice) {
  // More than a shelf keeps.
  std::vector<void*> blocks;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 40; ++i) {
      blocks.push_back(take(kRecord));
      std::memset(blocks.back(), i, kRecord);
    }
    EXPECT_EQ(std::set<void*>(blocks.begin(), blocks.end()).size(), blocks.size());
    for (void* const block : blocks) give(block);
    blocks.clear();
  }
}

TEST(TlsMemory, ReallocKeepsContentAcrossTheBorders) {
  auto* block = static_cast<char*>(take(100));
  std::memset(block, 7, 100);
  for (const std::size_t size : {kRecord, std::size_t{200'000}, kRecord, std::size_t{100}}) {
    block = static_cast<char*>(CRYPTO_realloc(block, size, "test", 0));
    ASSERT_NE(block, nullptr);
    for (std::size_t i = 0; i < 100; ++i) ASSERT_EQ(block[i], 7);
  }
  EXPECT_EQ(CRYPTO_realloc(block, 0, "test", 0), nullptr);
}

TEST(TlsMemory, BlocksMayEndInAnotherThreadAndThreadsMayEnd) {
  std::array<void*, 30> blocks;
  for (void*& block : blocks) block = take(kRecord);
  std::thread other([&blocks] {
    for (void* const block : blocks) give(block);
    void* const mine = take(kRecord);
    std::memset(mine, 1, kRecord);
    give(mine);
  });
  other.join();
  // Sanitizers report what the shelf of the ended thread kept.
  void* const block = take(kRecord);
  std::memset(block, 1, kRecord);
  give(block);
}

TEST(TlsMemory, CarriesTlsInManyThreads) {
  std::vector<std::thread> threads;
  std::array<bool, 3> fine{};
  for (std::size_t i = 0; i < fine.size(); ++i) {
    threads.emplace_back([&fine, i] {
      const auto context = make_context();
      const auto transport = OpenSslTransport::make(*context);
      TlsPeer peer({.version = TLS1_3_VERSION});
      bool good = connect(peer, *transport);
      const Bytes packet(3000, static_cast<std::uint8_t>(i));
      for (int round = 0; round < 50 && good; ++round) {
        peer.write(packet);
        good = open_all(*transport, peer.take()).plaintext == packet;
        ByteBuffer sink;
        good = good && transport->seal(packet, sink);
        peer.give(sink.bytes());
        good = good && peer.read() == packet;
      }
      fine[i] = good;
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const bool good : fine) EXPECT_TRUE(good);
}

}  // namespace
}  // namespace detour::net
