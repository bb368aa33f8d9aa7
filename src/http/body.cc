#include "http/body.h"

#include <algorithm>

namespace detour::http {
namespace {

/// The value of a hex digit, or -1.
[[nodiscard]] int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

BodySkipper::BodySkipper(const Request& request) {
  if (request.chunked) {
    state_ = State::kChunkSize;
  } else if (request.body_size > 0) {
    state_ = State::kSized;
    remaining_ = request.body_size;
  }
}

Result<std::size_t> BodySkipper::skip(std::span<const std::uint8_t> bytes) {
  std::size_t used = 0;
  while (used < bytes.size() && !done()) {
    const bool is_chunked = state_ != State::kSized;
    if (state_ == State::kSized || state_ == State::kData) {
      const std::size_t passed = std::min<std::uint64_t>(remaining_, bytes.size() - used);
      remaining_ -= passed;
      used += passed;
      if (is_chunked) taken_ += passed;
      if (remaining_ == 0) state_ = is_chunked ? State::kDataReturn : State::kDone;
    } else {
      if (!take_framing(static_cast<char>(bytes[used]))) return fail(ErrorCode::kHttpMalformed);
      ++used;
      ++taken_;
    }
    if (taken_ > kRequestBodyMax) return fail(ErrorCode::kHttpMalformed);
  }
  return used;
}

bool BodySkipper::take_framing(char c) {
  switch (state_) {
    case State::kChunkSize: {
      const int digit = hex_digit(c);
      if (digit >= 0) {
        has_digits_ = true;
        remaining_ = remaining_ * 16 + static_cast<std::uint64_t>(digit);
        return remaining_ <= kRequestBodyMax;
      }
      if (!has_digits_) return false;
      if (c == '\r') {
        state_ = State::kSizeLineFeed;
      } else {
        state_ = State::kExtension;
      }
      return c == '\r' || c == ';' || c == ' ' || c == '\t';
    }
    case State::kExtension:
      if (c == '\r') state_ = State::kSizeLineFeed;
      return c != '\n';
    case State::kSizeLineFeed:
      has_digits_ = false;
      state_ = remaining_ > 0 ? State::kData : State::kTrailer;
      return c == '\n';
    case State::kDataReturn:
      state_ = State::kDataLineFeed;
      return c == '\r';
    case State::kDataLineFeed:
      state_ = State::kChunkSize;
      return c == '\n';
    case State::kTrailer:
      state_ = c == '\r' ? State::kLastLineFeed : State::kTrailerLine;
      return c != '\n';
    case State::kTrailerLine:
      if (c == '\r') state_ = State::kTrailerLineFeed;
      return c != '\n';
    case State::kTrailerLineFeed:
      state_ = State::kTrailer;
      return c == '\n';
    case State::kLastLineFeed:
      state_ = State::kDone;
      return c == '\n';
    case State::kDone:
    case State::kSized:
    case State::kData:
      break;
  }
  return false;
}

}  // namespace detour::http
