#include "client/frame_reader.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/bytes.h"

namespace detour::client {
namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes frame_of(derp::FrameType type, std::size_t payload_size, std::uint8_t fill = 0x5a) {
  Bytes bytes(derp::kFrameHeaderSize + payload_size, fill);
  derp::write_frame_header(
      std::span(bytes).first<derp::kFrameHeaderSize>(),
      {.type = type, .payload_size = static_cast<std::uint32_t>(payload_size)});
  return bytes;
}

struct Copy {
  derp::FrameType type;
  Bytes payload;

  friend bool operator==(const Copy&, const Copy&) = default;
};

/// Feeds `part` and copies what comes out.
void feed(FrameReader& reader, std::span<const std::uint8_t> part, std::vector<Copy>* out) {
  while (true) {
    const auto frame = reader.next(&part);
    ASSERT_TRUE(frame.has_value());
    if (!*frame) break;
    out->push_back(
        {.type = (*frame)->type, .payload = {(*frame)->payload.begin(), (*frame)->payload.end()}});
  }
  EXPECT_TRUE(part.empty());
}

Bytes three_frames() {
  Bytes stream;
  for (const auto& frame :
       {frame_of(derp::FrameType::kKeepAlive, 0), frame_of(derp::FrameType::kPong, 8, 1),
        frame_of(derp::FrameType::kRecvPacket, 40, 2)})
    stream.insert(stream.end(), frame.begin(), frame.end());
  return stream;
}

const std::vector<Copy> kThreeFrames = {
    {.type = derp::FrameType::kKeepAlive, .payload = {}},
    {.type = derp::FrameType::kPong, .payload = Bytes(8, 1)},
    {.type = derp::FrameType::kRecvPacket, .payload = Bytes(40, 2)},
};

TEST(FrameReader, CutsAtEveryPairOfSplitPoints) {
  const Bytes stream = three_frames();
  for (std::size_t first = 0; first <= stream.size(); ++first) {
    for (std::size_t second = first; second <= stream.size(); ++second) {
      SCOPED_TRACE(testing::Message() << first << " " << second);
      FrameReader reader;
      std::vector<Copy> frames;
      const std::span<const std::uint8_t> whole = stream;
      feed(reader, whole.first(first), &frames);
      feed(reader, whole.subspan(first, second - first), &frames);
      feed(reader, whole.subspan(second), &frames);
      EXPECT_EQ(frames, kThreeFrames);
      EXPECT_EQ(reader.torn_size(), 0U);
    }
  }
}

TEST(FrameReader, CutsWhatComesByteByByte) {
  const Bytes stream = three_frames();
  FrameReader reader;
  std::vector<Copy> frames;
  for (const auto& byte : stream) feed(reader, {&byte, 1}, &frames);
  EXPECT_EQ(frames, kThreeFrames);
}

TEST(FrameReader, GivesWholeFramesWhereTheyLie) {
  const Bytes stream = frame_of(derp::FrameType::kRecvPacket, 100);
  FrameReader reader;
  std::span<const std::uint8_t> bytes = stream;
  const auto frame = reader.next(&bytes);
  ASSERT_TRUE(frame && *frame);
  EXPECT_EQ((*frame)->payload.data(), stream.data() + derp::kFrameHeaderSize);
}

TEST(FrameReader, KeepsTheBeginningOfATornFrame) {
  const Bytes stream = frame_of(derp::FrameType::kRecvPacket, 100);
  FrameReader reader;
  std::vector<Copy> frames;
  feed(reader, std::span(stream).first(50), &frames);
  EXPECT_TRUE(frames.empty());
  EXPECT_EQ(reader.torn_size(), 50U);
}

TEST(FrameReader, AcceptsTheLimitItselfAndRejectsAnythingAbove) {
  FrameReader at_limit;
  std::vector<Copy> frames;
  feed(at_limit, frame_of(derp::FrameType::kHealth, kFramePayloadMax), &frames);
  EXPECT_EQ(frames.size(), 1U);

  Bytes header(derp::kFrameHeaderSize);
  derp::write_frame_header(
      std::span(header).first<derp::kFrameHeaderSize>(),
      {.type = derp::FrameType::kHealth, .payload_size = kFramePayloadMax + 1});
  FrameReader whole;
  std::span<const std::uint8_t> bytes = header;
  EXPECT_EQ(whole.next(&bytes).error().code, ErrorCode::kFrameTooLarge);

  FrameReader torn;
  bytes = std::span(header).first(2);
  EXPECT_TRUE(torn.next(&bytes).has_value());
  bytes = std::span(header).subspan(2);
  EXPECT_EQ(torn.next(&bytes).error().code, ErrorCode::kFrameTooLarge);
}

}  // namespace
}  // namespace detour::client
