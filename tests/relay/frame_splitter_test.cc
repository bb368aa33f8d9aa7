#include "relay/frame_splitter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/frames.h"

namespace detour::relay {
namespace {

using derp::FrameType;
using test::Bytes;
using test::concat;
using test::frame;
using test::plain_packet;
using test::send_packet_frame;

/// Offers a stream in pieces as a connection does: what was not used is put in front of the next
/// piece.
class Feeder {
 public:
  explicit Feeder(bool is_mesh_peer = false) : splitter_(is_mesh_peer) {}

  /// Whether the stream may go on.
  bool feed(std::span<const std::uint8_t> piece) {
    carry_.insert(carry_.end(), piece.begin(), piece.end());
    std::span<const std::uint8_t> input(carry_);
    bool fine = true;
    for (;;) {
      const auto next = splitter_.next(input);
      if (!next) {
        error_ = next.error();
        fine = false;
        break;
      }
      if (!*next) break;
      frames_.push_back(frame((*next)->type, (*next)->payload));
    }
    carry_ = test::to_bytes(input);
    return fine;
  }

  [[nodiscard]] const std::vector<Bytes>& frames() const { return frames_; }
  [[nodiscard]] std::size_t carried() const { return carry_.size(); }
  [[nodiscard]] std::uint64_t headers_read() const { return splitter_.headers_read(); }
  [[nodiscard]] std::optional<Error> error() const { return error_; }

 private:
  FrameSplitter splitter_;
  Bytes carry_;
  std::vector<Bytes> frames_;
  std::optional<Error> error_;
};

/// Every kind of thing that may stand between two frames.
struct Mixture {
  std::vector<Bytes> parts;
  std::vector<Bytes> handled;
  Bytes stream;
};

Mixture mixture() {
  Mixture made;
  const auto add = [&made](Bytes bytes, bool is_handled) {
    made.stream.insert(made.stream.end(), bytes.begin(), bytes.end());
    if (is_handled) made.handled.push_back(bytes);
    made.parts.push_back(std::move(bytes));
  };
  add(send_packet_frame(test::numbered_key(1), {}), true);
  add(frame(0xee, plain_packet(10)), false);
  add(send_packet_frame(test::numbered_key(2), plain_packet(60)), true);
  add(frame(FrameType::kKeepAlive), false);
  add(frame(FrameType::kKeepAlive), false);
  add(frame(FrameType::kPing, plain_packet(8)), true);
  add(frame(FrameType::kNotePreferred, plain_packet(1)), true);
  add(frame(FrameType::kRecvPacket, plain_packet(40)), false);
  add(frame(FrameType::kPing, plain_packet(20)), true);
  add(frame(0x7f, plain_packet(1)), false);
  return made;
}

TEST(FrameSplitter, GivesWholeFramesWhereTheyLie) {
  const Bytes stream = concat({send_packet_frame(test::numbered_key(1), plain_packet(100)),
                               frame(FrameType::kPing, plain_packet(8))});
  FrameSplitter splitter(false);
  std::span<const std::uint8_t> input(stream);
  const auto first = splitter.next(input);
  ASSERT_TRUE(first.has_value() && first->has_value());
  EXPECT_EQ((*first)->type, FrameType::kSendPacket);
  EXPECT_EQ((*first)->payload.data(), stream.data() + derp::kFrameHeaderSize) << "no copy";
  EXPECT_EQ((*first)->payload.size(), crypto::kKeySize + 100);
  EXPECT_EQ(input.data(), stream.data() + derp::kFrameHeaderSize + crypto::kKeySize + 100);

  const auto second = splitter.next(input);
  ASSERT_TRUE(second.has_value() && second->has_value());
  EXPECT_EQ((*second)->type, FrameType::kPing);
  EXPECT_TRUE(input.empty());
  const auto none = splitter.next(input);
  ASSERT_TRUE(none.has_value());
  EXPECT_FALSE(none->has_value());
}

TEST(FrameSplitter, GivesTheSameFramesAtEverySplitPoint) {
  const Mixture wanted = mixture();
  for (std::size_t at = 0; at <= wanted.stream.size(); ++at) {
    SCOPED_TRACE(at);
    Feeder feeder;
    ASSERT_TRUE(feeder.feed(std::span(wanted.stream).first(at)));
    ASSERT_TRUE(feeder.feed(std::span(wanted.stream).subspan(at)));
    ASSERT_EQ(feeder.frames(), wanted.handled);
    ASSERT_EQ(feeder.headers_read(), wanted.parts.size()) << "each header counts once";
    ASSERT_EQ(feeder.carried(), 0U);
  }
}

TEST(FrameSplitter, GivesTheSameFramesInPiecesOfAnySize) {
  const Mixture wanted = mixture();
  for (std::size_t size = 1; size <= 50; ++size) {
    SCOPED_TRACE(size);
    Feeder feeder;
    std::span<const std::uint8_t> rest(wanted.stream);
    while (!rest.empty()) {
      const std::size_t taken = std::min(size, rest.size());
      ASSERT_TRUE(feeder.feed(rest.first(taken)));
      rest = rest.subspan(taken);
    }
    ASSERT_EQ(feeder.frames(), wanted.handled);
    ASSERT_EQ(feeder.headers_read(), wanted.parts.size());
  }
}

TEST(FrameSplitter, KeepsOnlyThePartialFrameAtEveryTruncation) {
  const Mixture wanted = mixture();
  for (std::size_t size = 0; size < wanted.stream.size(); ++size) {
    SCOPED_TRACE(size);
    // What lies whole in front of the cut, and how far into the next part the cut is.
    std::size_t handled = 0;
    std::size_t begin = 0;
    std::size_t part = 0;
    while (begin + wanted.parts[part].size() <= size) {
      const Bytes& whole = wanted.parts[part];
      if (handled < wanted.handled.size() && whole == wanted.handled[handled]) ++handled;
      begin += whole.size();
      ++part;
    }
    const std::size_t into = size - begin;
    const bool is_skipped =
        handled == wanted.handled.size() || wanted.parts[part] != wanted.handled[handled];

    Feeder feeder;
    ASSERT_TRUE(feeder.feed(std::span(wanted.stream).first(size)));
    ASSERT_EQ(feeder.frames().size(), handled);
    // A skipped frame is thrown away as it comes, once its header is there.
    const bool thrown_away = is_skipped && into >= derp::kFrameHeaderSize;
    ASSERT_EQ(feeder.carried(), thrown_away ? 0 : into);
    ASSERT_EQ(feeder.headers_read(), part + (into >= derp::kFrameHeaderSize ? 1 : 0));
  }
}

TEST(FrameSplitter, SkipsUnknownFramesUpToTheLimitHoweverTheyAreSplit) {
  const Bytes after = send_packet_frame(test::numbered_key(1), plain_packet(10));
  const Bytes stream =
      concat({frame(0xee, plain_packet(derp::kUnknownFrameMax)), after,
              frame(FrameType::kPong, plain_packet(derp::kUnknownFrameMax)), after});
  static_assert(derp::kUnknownFrameMax == 65'568);
  for (const std::size_t size : {1U, 4U, 5U, 6U, 1400U, 16'384U, 65'573U, 65'574U, 1'000'000U}) {
    SCOPED_TRACE(size);
    Feeder feeder;
    std::span<const std::uint8_t> rest(stream);
    while (!rest.empty()) {
      const std::size_t taken = std::min<std::size_t>(size, rest.size());
      ASSERT_TRUE(feeder.feed(rest.first(taken)));
      ASSERT_LT(feeder.carried(), after.size()) << "nothing of a skipped frame is kept";
      rest = rest.subspan(taken);
    }
    ASSERT_EQ(feeder.frames(), (std::vector<Bytes>{after, after}));
    ASSERT_EQ(feeder.headers_read(), 4U);
  }
}

TEST(FrameSplitter, HoldsEachTypeToItsLimitsFromTheHeaderAlone) {
  struct Case {
    std::string_view name;
    FrameType type;
    std::uint32_t payload_size;
    std::optional<ErrorCode> error_of_client;
    std::optional<ErrorCode> error_of_mesh_peer;
  };
  constexpr auto kFine = std::nullopt;
  constexpr auto kTooSmall = ErrorCode::kFrameTooSmall;
  constexpr auto kTooLarge = ErrorCode::kFrameTooLarge;
  constexpr auto kWrong = ErrorCode::kFrameLengthInvalid;
  constexpr auto kForbidden = ErrorCode::kFrameNotPermitted;
  constexpr Case kCases[] = {
      {"packet without a whole key", FrameType::kSendPacket, 31, kTooSmall, kTooSmall},
      {"empty packet", FrameType::kSendPacket, 32, kFine, kFine},
      {"largest packet", FrameType::kSendPacket, 32 + 65'536, kFine, kFine},
      {"packet too large", FrameType::kSendPacket, 32 + 65'537, kTooLarge, kTooLarge},
      {"forward without keys", FrameType::kForwardPacket, 63, kForbidden, kTooSmall},
      {"empty forward", FrameType::kForwardPacket, 64, kForbidden, kFine},
      {"largest forward", FrameType::kForwardPacket, 64 + 65'536, kForbidden, kFine},
      {"forward too large", FrameType::kForwardPacket, 64 + 65'537, kForbidden, kTooLarge},
      {"no preference", FrameType::kNotePreferred, 0, kWrong, kWrong},
      {"preference", FrameType::kNotePreferred, 1, kFine, kFine},
      {"long preference", FrameType::kNotePreferred, 2, kWrong, kWrong},
      {"watch", FrameType::kWatchConns, 0, kForbidden, kFine},
      {"long watch", FrameType::kWatchConns, 1, kWrong, kWrong},
      {"close without key", FrameType::kClosePeer, 31, kWrong, kWrong},
      {"close", FrameType::kClosePeer, 32, kForbidden, kFine},
      {"long close", FrameType::kClosePeer, 33, kWrong, kWrong},
      {"short ping", FrameType::kPing, 7, kTooSmall, kTooSmall},
      {"ping", FrameType::kPing, 8, kFine, kFine},
      {"longest ping", FrameType::kPing, 1000, kFine, kFine},
      {"ping too long", FrameType::kPing, 1001, kTooLarge, kTooLarge},
      {"unknown", FrameType{0xee}, 65'568, kFine, kFine},
      {"unknown too large", FrameType{0xee}, 65'569, kTooLarge, kTooLarge},
      {"of any size", FrameType{0xee}, 0xffff'ffff, kTooLarge, kTooLarge},
      {"login again", FrameType::kClientInfo, 65'568, kFine, kFine},
      {"large login again", FrameType::kClientInfo, 65'569, kTooLarge, kTooLarge},
  };
  for (const auto& [name, type, payload_size, error_of_client, error_of_mesh_peer] : kCases) {
    for (const bool is_mesh_peer : {false, true}) {
      SCOPED_TRACE(std::string(name) + (is_mesh_peer ? " of a mesh peer" : " of a client"));
      Bytes header(derp::kFrameHeaderSize);
      derp::write_frame_header(std::span(header).first<derp::kFrameHeaderSize>(),
                               {.type = type, .payload_size = payload_size});
      const auto wanted = is_mesh_peer ? error_of_mesh_peer : error_of_client;
      FrameSplitter splitter(is_mesh_peer);
      std::span<const std::uint8_t> input(header);
      const auto result = splitter.next(input);
      ASSERT_EQ(result.has_value(), !wanted.has_value());
      if (wanted) {
        EXPECT_EQ(result.error().code, *wanted);
      }
      EXPECT_EQ(splitter.headers_read(), 1U) << "a refused frame still is a sign of life";
    }
  }
}

TEST(FrameSplitter, FramesInFrontOfABrokenOneAreGiven) {
  const Bytes good = send_packet_frame(test::numbered_key(1), plain_packet(10));
  const Bytes bad = frame(FrameType::kPing, plain_packet(7));
  const Bytes stream = concat({good, frame(0xee, plain_packet(3)), good, bad, good});
  for (std::size_t at = 0; at <= stream.size(); ++at) {
    SCOPED_TRACE(at);
    Feeder feeder;
    if (feeder.feed(std::span(stream).first(at))) {
      ASSERT_FALSE(feeder.feed(std::span(stream).subspan(at)));
    }
    ASSERT_EQ(feeder.frames(), (std::vector<Bytes>{good, good}));
    ASSERT_EQ(feeder.error(), Error{ErrorCode::kFrameTooSmall});
  }
}

TEST(FrameSplitter, NeverNeedsMoreThanItsLargestFrame) {
  const Bytes packet = plain_packet(derp::kPacketSizeMax);
  const Bytes largest = send_packet_frame(test::numbered_key(1), packet);
  EXPECT_LE(largest.size(), FrameSplitter::kFrameSizeMax);
  Bytes forward = test::to_bytes(test::numbered_key(1).bytes());
  forward.insert(forward.end(), crypto::kKeySize, 2);
  forward.insert(forward.end(), packet.begin(), packet.end());
  const Bytes largest_of_mesh = frame(FrameType::kForwardPacket, forward);
  EXPECT_EQ(largest_of_mesh.size(), FrameSplitter::kFrameSizeMax);

  Feeder feeder(/*is_mesh_peer=*/true);
  const Bytes stream = concat({largest, largest_of_mesh});
  std::span<const std::uint8_t> rest(stream);
  while (!rest.empty()) {
    const std::size_t taken = std::min<std::size_t>(61, rest.size());
    ASSERT_TRUE(feeder.feed(rest.first(taken)));
    ASSERT_LT(feeder.carried(), FrameSplitter::kFrameSizeMax);
    rest = rest.subspan(taken);
  }
  EXPECT_EQ(feeder.frames(), (std::vector<Bytes>{largest, largest_of_mesh}));
}

}  // namespace
}  // namespace detour::relay
