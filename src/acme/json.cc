#include "acme/json.h"

#include <nlohmann/json.hpp>

namespace detour::acme {

std::optional<nlohmann::json> parse_object(std::string_view text) {
  auto parsed = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) return std::nullopt;
  return parsed;
}

std::string text_member(const nlohmann::json& object, std::string_view name) {
  if (!object.is_object()) return {};
  const auto found = object.find(std::string(name));
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::vector<std::string> texts_member(const nlohmann::json& object, std::string_view name) {
  std::vector<std::string> texts;
  if (!object.is_object()) return texts;
  const auto found = object.find(std::string(name));
  if (found == object.end() || !found->is_array()) return texts;
  for (const auto& entry : *found)
    if (entry.is_string()) texts.push_back(entry.get<std::string>());
  return texts;
}

std::string to_text(const nlohmann::json& json) {
  return json.dump(-1, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace);
}

}  // namespace detour::acme
