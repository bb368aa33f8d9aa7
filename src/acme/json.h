#pragma once

#include <nlohmann/json_fwd.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// Reading what an authority sends, none of which can be relied on. For this folder only.
namespace detour::acme {

/// Nullopt when `text` is not a JSON object.
[[nodiscard]] std::optional<nlohmann::json> parse_object(std::string_view text);

/// A member that is a text; empty when there is none.
[[nodiscard]] std::string text_member(const nlohmann::json& object, std::string_view name);

/// The texts in a member that is a list; nothing when there is none.
[[nodiscard]] std::vector<std::string> texts_member(const nlohmann::json& object,
                                                    std::string_view name);

/// As text; what is not UTF-8 is replaced.
[[nodiscard]] std::string to_text(const nlohmann::json& json);

}  // namespace detour::acme
