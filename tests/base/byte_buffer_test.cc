#include "base/byte_buffer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace detour {
namespace {

std::vector<std::uint8_t> numbers(std::size_t count) {
  std::vector<std::uint8_t> bytes(count);
  std::iota(bytes.begin(), bytes.end(), std::uint8_t{0});
  return bytes;
}

std::vector<std::uint8_t> content(const ByteBuffer& buffer) {
  const auto bytes = buffer.bytes();
  return {bytes.begin(), bytes.end()};
}

TEST(ByteBuffer, AppendsAndGrowsWithoutLosingContent) {
  ByteBuffer buffer;
  EXPECT_TRUE(buffer.empty());
  EXPECT_EQ(buffer.capacity(), 0U);
  std::vector<std::uint8_t> expected;
  for (std::size_t size : {1U, 0U, 10U, 1000U, 3U, 5000U}) {
    const auto part = numbers(size);
    buffer.append(part);
    expected.insert(expected.end(), part.begin(), part.end());
    ASSERT_EQ(content(buffer), expected);
  }
  EXPECT_EQ(buffer.size(), expected.size());
}

TEST(ByteBuffer, GrowsInStepsThatGrowToo) {
  ByteBuffer buffer;
  const std::uint8_t byte[] = {7};
  int growths = 0;
  std::size_t capacity = buffer.capacity();
  for (int i = 0; i < 100'000; ++i) {
    buffer.append(byte);
    if (buffer.capacity() != capacity) ++growths;
    capacity = buffer.capacity();
  }
  EXPECT_LT(growths, 40);
}

TEST(ByteBuffer, TakesWhatWasWrittenIntoItsRoom) {
  ByteBuffer buffer(8);
  EXPECT_EQ(buffer.room().size(), 8U);
  std::ranges::copy(numbers(5), buffer.room().begin());
  buffer.commit(5);
  EXPECT_EQ(content(buffer), numbers(5));
  EXPECT_EQ(buffer.room().size(), 3U);

  buffer.append(numbers(3));
  EXPECT_TRUE(buffer.room().empty());
  EXPECT_EQ(buffer.capacity(), 8U);
}

TEST(ByteBuffer, RemovesAtTheFront) {
  for (std::size_t count = 0; count <= 10; ++count) {
    SCOPED_TRACE(count);
    ByteBuffer buffer;
    buffer.append(numbers(10));
    buffer.consume_front(count);
    auto expected = numbers(10);
    expected.erase(expected.begin(), expected.begin() + static_cast<std::ptrdiff_t>(count));
    EXPECT_EQ(content(buffer), expected);
  }
}

TEST(ByteBuffer, ClearKeepsTheMemoryAndReleaseDoesNot) {
  ByteBuffer buffer;
  buffer.append(numbers(100));
  const std::size_t capacity = buffer.capacity();
  buffer.clear();
  EXPECT_TRUE(buffer.empty());
  EXPECT_EQ(buffer.capacity(), capacity);
  buffer.reserve(capacity / 2);
  EXPECT_EQ(buffer.capacity(), capacity) << "reserve() never shrinks";

  buffer.append(numbers(100));
  buffer.release();
  EXPECT_TRUE(buffer.empty());
  EXPECT_EQ(buffer.capacity(), 0U);
  buffer.append(numbers(3));
  EXPECT_EQ(content(buffer), numbers(3));
}

}  // namespace
}  // namespace detour
