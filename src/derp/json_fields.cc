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
  const bool parsed = json::sax_parse(text.begin(), text.end(), &reader);
  if (const auto error = reader.error()) return std::unexpected(*error);
  if (!parsed) return fail(ErrorCode::kJsonInvalid);
  return {};
}

}  // namespace detour::derp
