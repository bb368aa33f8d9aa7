#include "derp/json_fields.h"

#include <nlohmann/json.hpp>

#include <limits>
#include <optional>
#include <string>

namespace detour::derp {
namespace {

using nlohmann::json;

/// Folds a field name as Go does: ASCII letters lose their case, and so do the two letters beyond
/// ASCII that have an ASCII letter as their other case.
[[nodiscard]] std::string fold(std::string_view name) {
  constexpr std::string_view kLongS = "\u017f";
  constexpr std::string_view kKelvinSign = "\u212a";

  std::string folded;
  folded.reserve(name.size());
  while (!name.empty()) {
    std::size_t taken = 1;
    if (name.starts_with(kLongS)) {
      folded += 's';
      taken = kLongS.size();
    } else if (name.starts_with(kKelvinSign)) {
      folded += 'k';
      taken = kKelvinSign.size();
    } else if (name.front() >= 'A' && name.front() <= 'Z') {
      folded += static_cast<char>(name.front() - 'A' + 'a');
    } else {
      folded += name.front();
    }
    name.remove_prefix(taken);
  }
  return folded;
}

/// How many bytes the UTF-8 sequence at the front of `text` has; 0 when it is none.
[[nodiscard]] std::size_t sequence_size(std::string_view text) {
  const auto byte_at = [text](std::size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
  };
  const unsigned first = byte_at(0);
  if (first < 0x80) return 1;
  // The second byte's range keeps out overlong forms, surrogates and what is beyond U+10FFFF
  // (Unicode, table 3-7).
  unsigned low = 0x80;
  unsigned high = 0xbf;
  std::size_t size = 0;
  if (first >= 0xc2 && first <= 0xdf) {
    size = 2;
  } else if (first >= 0xe0 && first <= 0xef) {
    size = 3;
    if (first == 0xe0) low = 0xa0;
    if (first == 0xed) high = 0x9f;
  } else if (first >= 0xf0 && first <= 0xf4) {
    size = 4;
    if (first == 0xf0) low = 0x90;
    if (first == 0xf4) high = 0x8f;
  } else {
    return 0;
  }
  if (byte_at(1) < low || byte_at(1) > high) return 0;
  for (std::size_t i = 2; i < size; ++i) {
    if (byte_at(i) < 0x80 || byte_at(i) > 0xbf) return 0;
  }
  return size;
}

/// `text` with each byte that is not part of valid UTF-8 replaced by U+FFFD, as Go does in strings.
/// Outside strings neither is JSON.
[[nodiscard]] std::string with_valid_utf8(std::string_view text) {
  constexpr std::string_view kReplacement = "\ufffd";
  std::string valid;
  valid.reserve(text.size());
  while (!text.empty()) {
    const std::size_t size = sequence_size(text);
    valid += size == 0 ? kReplacement : text.substr(0, size);
    text.remove_prefix(size == 0 ? 1 : size);
  }
  return valid;
}

/// Receives the parser's events and passes on those of the outermost object.
///
/// Each event returns whether to go on. A field error ends the parse at once: the message is
/// refused in any case.
class FieldReader final : public nlohmann::json_sax<json> {
 public:
  explicit FieldReader(const JsonFieldVisitor& visit) : visit_(visit) {}

  [[nodiscard]] std::optional<Error> error() const { return error_; }

  bool null() override {
    if (depth_ == 0) return true;
    return value(JsonNull{});
  }
  bool boolean(bool val) override { return value(val); }
  bool number_integer(number_integer_t val) override { return value(std::int64_t{val}); }
  bool number_unsigned(number_unsigned_t val) override {
    constexpr auto kMax = static_cast<number_unsigned_t>(std::numeric_limits<std::int64_t>::max());
    if (val > kMax) return value(JsonOther{});
    return value(static_cast<std::int64_t>(val));
  }
  bool number_float(number_float_t /*val*/, const string_t& /*text*/) override {
    return value(JsonOther{});
  }
  bool string(string_t& val) override { return value(std::string_view(val)); }
  bool binary(binary_t& /*val*/) override { return refuse(ErrorCode::kJsonInvalid); }

  bool start_object(std::size_t /*elements*/) override {
    if (depth_ > 0 && !value(JsonOther{})) return false;
    return descend();
  }
  bool key(string_t& val) override {
    if (depth_ == 1) name_ = fold(val);
    return true;
  }
  bool end_object() override {
    --depth_;
    return true;
  }
  bool start_array(std::size_t /*elements*/) override { return value(JsonOther{}) && descend(); }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool parse_error(std::size_t /*position*/, const std::string& /*last_token*/,
                   const nlohmann::detail::exception& /*cause*/) override {
    return refuse(ErrorCode::kJsonInvalid);
  }

 private:
  bool value(const JsonScalar& scalar) {
    if (depth_ == 0) return refuse(ErrorCode::kJsonFieldInvalid);
    if (depth_ > 1) return true;

    const auto visited = visit_(name_, scalar);
    if (!visited) error_ = visited.error();
    return visited.has_value();
  }
  bool descend() {
    ++depth_;
    return depth_ <= kJsonNestingMax || refuse(ErrorCode::kJsonInvalid);
  }
  bool refuse(ErrorCode code) {
    if (!error_) error_ = Error{code};
    return false;
  }

  const JsonFieldVisitor& visit_;
  std::string name_;
  std::size_t depth_ = 0;
  std::optional<Error> error_;
};

}  // namespace

Result<void> read_json_fields(std::string_view text, const JsonFieldVisitor& visit) {
  // The parser takes a NUL for the end of its input, and skips a byte order mark; Go does neither.
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (text.find('\0') != std::string_view::npos || text.starts_with(kByteOrderMark)) {
    return fail(ErrorCode::kJsonInvalid);
  }

  FieldReader reader(visit);
  const std::string valid = with_valid_utf8(text);
  const bool parsed = json::sax_parse(valid, &reader);
  if (const auto error = reader.error()) return std::unexpected(*error);
  if (!parsed) return fail(ErrorCode::kJsonInvalid);
  return {};
}

}  // namespace detour::derp
