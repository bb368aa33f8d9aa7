#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <variant>

#include "base/result.h"

/// The small part of JSON that DERP's sealed messages need, read as Go's encoding/json reads it.
namespace detour::derp {

/// Values nested deeper than this are refused, as Go does.
inline constexpr std::size_t kJsonNestingMax = 10'000;

struct JsonNull {};
/// An object or array, or a number that is not an integer within int64 (`2.0`, `1e3`).
struct JsonOther {};
/// A string is valid only during the call that hands it over.
using JsonScalar = std::variant<JsonNull, bool, std::int64_t, std::string_view, JsonOther>;

/// Called for each field of the outermost object, in order, duplicates included. `folded_name` is
/// in lower case, and equal for two names exactly where Go matches them. An error that it returns
/// becomes the result of the whole reading.
using JsonFieldVisitor =
    std::function<Result<void>(std::string_view folded_name, const JsonScalar& value)>;

/// Hands the fields of one JSON object to `visit`; `null` counts as an empty object.
///
/// Nothing but white space may stand around the value. As in Go, bytes that are no UTF-8
/// count as U+FFFD. Stricter than Go in two points that no client comes near: `\u` escapes must
/// form valid surrogate pairs, and numbers of ignored fields must be within the range of a double.
/// Fails with kJsonInvalid, with kJsonFieldInvalid when the value is no object, and as `visit`
/// does.
[[nodiscard]] Result<void> read_json_fields(std::string_view json, const JsonFieldVisitor& visit);

}  // namespace detour::derp
