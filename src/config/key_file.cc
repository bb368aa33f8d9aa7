#include "config/key_file.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace detour::config {
namespace {

constexpr std::string_view kFieldInLowerCase = "privatekey";

bool is_key_field(std::string_view name) {
  return std::ranges::equal(name, kFieldInLowerCase, [](char a, char b) {
    return (a >= 'A' && a <= 'Z' ? static_cast<char>(a + 32) : a) == b;
  });
}

/// What can be done when the file is of no use.
std::string remedy(const std::string& path) {
  return fmt::format(
      "restore it from a backup; or move it away with `mv {0} {0}.broken`: a new key is made then, "
      "and clients learn it by themselves",
      path);
}

}  // namespace

std::expected<crypto::NodePrivate, std::string> parse_key_file(const std::string& path,
                                                               std::string_view content) {
  const auto complain = [&](std::string_view what) {
    return std::unexpected(fmt::format("relay key: {}: {}; {}", path, what, remedy(path)));
  };
  if (content.find_first_not_of(" \t\r\n") == std::string_view::npos)
    return complain("is empty, perhaps the disk was full when it was written");
  const auto json = nlohmann::json::parse(content, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) {
    if (content.find("-----BEGIN") != std::string_view::npos)
      return complain(
          "is a PEM file, and the relay's own key is needed here (the certificate's key "
          "is another setting)");
    return complain("is not JSON, so it is damaged or not a relay's key");
  }
  if (!json.is_object()) return complain("is not a JSON object");

  const nlohmann::json* found = nullptr;
  for (const auto& [name, value] : json.items())
    if (is_key_field(name)) found = &value;
  if (found == nullptr) return complain("has no field \"PrivateKey\"");
  if (!found->is_string()) return complain("has a \"PrivateKey\" that is not a text");
  auto key = crypto::NodePrivate::parse(found->get_ref<const std::string&>());
  if (!key) return complain("has a \"PrivateKey\" that is not privkey: and 64 hex digits");
  if (key->is_zero()) return complain("has a key of zeros, which is no key");
  return *key;
}

std::string format_key_file(const crypto::NodePrivate& key) {
  return fmt::format("{{\n\t\"PrivateKey\": \"{}\"\n}}", key.typed_secret());
}

}  // namespace detour::config
