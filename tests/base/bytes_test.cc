#include "base/bytes.h"

#include <gtest/gtest.h>

#include <array>

namespace detour {
namespace {

TEST(Bytes, ReadsAndWritesNetworkOrder) {
  std::array<std::uint8_t, 4> four{};
  write_be32(four, 0x01020304U);
  EXPECT_EQ(four, (std::array<std::uint8_t, 4>{1, 2, 3, 4}));
  EXPECT_EQ(read_be32(four), 0x01020304U);

  std::array<std::uint8_t, 2> two{};
  write_be16(two, 0xfffeU);
  EXPECT_EQ(two, (std::array<std::uint8_t, 2>{0xff, 0xfe}));
  EXPECT_EQ(read_be16(two), 0xfffeU);
}

}  // namespace
}  // namespace detour
