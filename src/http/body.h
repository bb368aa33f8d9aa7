#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "http/message.h"

namespace detour::http {

/// Finds the end of a request's body, sized or chunked (RFC 9112 section 7.1), so that the
/// connection can go on to the next request. The body itself is thrown away: no endpoint takes one.
///
/// A value with a few bytes of state; never allocates.
class BodySkipper {
 public:
  /// For a request without a body.
  BodySkipper() = default;
  explicit BodySkipper(const Request& request);

  /// Whether the whole body has gone by.
  [[nodiscard]] bool done() const { return state_ == State::kDone; }

  /// How many bytes at the front of `bytes` belong to the body: all of them until done(). Fails
  /// with kHttpMalformed on broken chunks and once a chunked body takes more than kRequestBodyMax
  /// bytes, its framing included; the connection cannot be used any more then.
  [[nodiscard]] Result<std::size_t> skip(std::span<const std::uint8_t> bytes);

 private:
  enum class State : std::uint8_t {
    kDone,
    kSized,         ///< `remaining_` bytes to go.
    kChunkSize,     ///< Hex digits, then an extension or the end of the line.
    kExtension,     ///< Up to the end of the line.
    kSizeLineFeed,  ///< The second half of that line's end.
    kData,          ///< `remaining_` bytes of this chunk to go.
    kDataReturn,    ///< The line's end behind the data.
    kDataLineFeed,
    kTrailer,  ///< At the beginning of a line: an empty one is the end.
    kTrailerLine,
    kTrailerLineFeed,
    kLastLineFeed,
  };

  /// Takes one byte of chunk framing. False when it is not allowed there.
  [[nodiscard]] bool take_framing(char c);

  State state_ = State::kDone;
  bool has_digits_ = false;      ///< The size of this chunk has begun.
  std::uint64_t remaining_ = 0;  ///< While reading a chunk's size: what it is so far.
  std::uint64_t taken_ = 0;      ///< Bytes of a chunked body so far.
};

}  // namespace detour::http
