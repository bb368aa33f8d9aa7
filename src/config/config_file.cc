#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <cmath>
#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/build_config.h"
#include "config/suggest.h"

namespace detour::config {
namespace {

std::string_view type_name(toml::node_type type) {
  switch (type) {
    case toml::node_type::boolean:
      return "true or false";
    case toml::node_type::integer:
      return "a whole number";
    case toml::node_type::floating_point:
      return "a number";
    case toml::node_type::string:
      return "text in quotes";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::table:
      return "a table";
    default:
      return "a date or time";
  }
}

struct Wanted {
  std::string_view what;
  std::string_view example;
};

/// What a key's value has to be, with an example that is right for many.
Wanted wanted(Kind kind) {
  switch (kind) {
    case Kind::kSwitch:
      return {"true or false without quotes", "true"};
    case Kind::kCount:
    case Kind::kPort:
      return {"a whole number without quotes", "3478"};
    case Kind::kOptionalPort:
      return {"a port without quotes, or \"off\"", "80"};
    case Kind::kNumber:
      return {"a number without quotes", "10.5"};
    case Kind::kTime:
    case Kind::kSignedTime:
      return {"a time with its unit in quotes", "\"15s\""};
    case Kind::kListen:
    case Kind::kOptionalListen:
      return {"an address in quotes", "\":443\""};
    case Kind::kNames:
    case Kind::kFiles:
    case Kind::kUrls:
    case Kind::kRanges:
    case Kind::kMeshPeers:
      return {"a list of texts", "[\"one\", \"two\"]"};
    default:
      return {"text in quotes", "\"...\""};
  }
}

/// A scalar as the flag of the same name would have it; nullopt when it is of a wrong type.
std::optional<std::string> text_of(Kind kind, const toml::node& node) {
  if (const auto* text = node.as_string()) {
    const bool is_number = kind == Kind::kSwitch || kind == Kind::kCount || kind == Kind::kPort ||
                           kind == Kind::kNumber;
    if (is_number) return std::nullopt;
    return text->get();
  }
  if (const auto* value = node.as_boolean())
    return kind == Kind::kSwitch ? std::optional<std::string>(value->get() ? "true" : "false")
                                 : std::nullopt;
  if (const auto* number = node.as_integer()) {
    const bool fits = kind == Kind::kCount || kind == Kind::kPort || kind == Kind::kOptionalPort ||
                      kind == Kind::kNumber || kind == Kind::kListen ||
                      kind == Kind::kOptionalListen;
    return fits ? std::optional(fmt::format("{}", number->get())) : std::nullopt;
  }
  if (const auto* number = node.as_floating_point())
    return kind == Kind::kNumber ? std::optional(fmt::format("{}", number->get())) : std::nullopt;
  return std::nullopt;
}

std::optional<std::vector<std::string>> items_of(const toml::array& array) {
  std::vector<std::string> items;
  for (const auto& node : array) {
    const auto* text = node.as_string();
    if (text == nullptr) return std::nullopt;
    items.push_back(text->get());
  }
  return items;
}

class Reader {
 public:
  Reader(const std::string& path, Inputs& inputs, Remarks& remarks)
      : path_(path), inputs_(inputs), remarks_(remarks) {
    for (const auto& row : settings_table())
      if (row.has_option || row.has_variables) names_.push_back(row.name);
  }

  void read(const toml::table& table) {
    for (const auto& [key, node] : table) read_key(key.str(), key.source(), node);
  }

 private:
  [[nodiscard]] std::string place(const toml::source_region& source) const {
    return fmt::format("{} line {}", path_, source.begin.line);
  }

  void problem(const toml::source_region& source, std::string_view text) {
    remarks_.problems.push_back(fmt::format("{}: {}", place(source), text));
  }

  void read_key(std::string_view name, const toml::source_region& source, const toml::node& node) {
    if (std::ranges::find(names_, name) == names_.end()) {
      const auto meant = suggest(name, names_);
      if (meant)
        return problem(source, fmt::format("unknown key {}: did you mean {}?", name, *meant));
      return problem(source, fmt::format("unknown key {}{}", name,
                                         node.is_table() ? ": there are no tables, write all "
                                                           "settings on the first level"
                                                         : ""));
    }
    const SettingRow& row = setting_row(name);
    if (const auto* array = node.as_array(); array != nullptr && is_list(row.kind)) {
      if (auto items = items_of(*array))
        return inputs_.set_items(row, Origin::kFile, place(source), std::move(*items));
    } else if (auto text = text_of(row.kind, node)) {
      return inputs_.set(row, Origin::kFile, place(source), std::move(*text));
    }
    const Wanted want = wanted(row.kind);
    problem(source, fmt::format("{}: {} is needed, not {}: write it like {} = {}", name, want.what,
                                type_name(node.type()), name, want.example));
  }

  const std::string& path_;
  Inputs& inputs_;
  Remarks& remarks_;
  std::vector<std::string_view> names_;
};

}  // namespace

void read_config_file(const std::string& path, std::string_view content, Inputs& inputs,
                      Remarks& remarks) {
  try {
    Reader(path, inputs, remarks).read(toml::parse(content));
  } catch (const toml::parse_error& error) {
    remarks.problems.push_back(fmt::format("{} line {}, column {}: {}", path,
                                           error.source().begin.line, error.source().begin.column,
                                           error.description()));
  }
}

}  // namespace detour::config
