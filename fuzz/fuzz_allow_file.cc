// An allow file: what is taken has to be what was written, and what is refused must not be shown.
// Input: the file.

#include <span>
#include <string>
#include <string_view>

#include "admission/allow_list.h"
#include "base/bytes.h"
#include "base/check.h"

namespace {

using namespace detour;

/// Keys and names written again, one a line, have to be read as the same.
void write_and_read(const admission::AllowList& list) {
  std::string text;
  for (const auto& [key, name] : *list.names()) text += key.typed() + " # " + name + "\n";
  const auto again = admission::AllowList::parse("/again", text);
  DETOUR_CHECK(again.has_value());
  DETOUR_CHECK(again->size() == list.names()->size());
  for (const auto& [key, name] : *list.names()) {
    DETOUR_CHECK(list.contains(key) && again->contains(key));
    const auto found = again->names()->find(key);
    DETOUR_CHECK(found != again->names()->end() && found->second == name);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view content = as_text(std::span(data, size));
  const auto list = admission::AllowList::parse("/allow", content);
  if (!list) {
    DETOUR_CHECK(list.error().starts_with("allow file /allow: line "));
    return 0;
  }
  // 72 characters and the end of a line for each key.
  DETOUR_CHECK(list->size() <= size / 72);
  DETOUR_CHECK(list->names()->size() <= list->size());
  write_and_read(*list);
  return 0;
}
