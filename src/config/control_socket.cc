#include "config/control_socket.h"

#include <unistd.h>

#include "config/command_line.h"
#include "config/settings.h"

namespace detour::config {
namespace {

constexpr std::string_view kRunFolder = "/run/detour";
constexpr std::string_view kName = "/detour.sock";

std::string beside(const std::string& key_file) {
  const std::size_t slash = key_file.rfind('/');
  if (slash == std::string::npos) return "." + std::string(kName);
  return key_file.substr(0, slash) + std::string(kName);
}

}  // namespace

ControlSocket control_socket_of(const Config& config) {
  if (config.control_socket == "off" || config.control_socket.empty()) return {};
  if (config.control_socket != "auto") return {.path = config.control_socket};
  if (::access(std::string(kRunFolder).c_str(), W_OK | X_OK) == 0)
    return {.path = std::string(kRunFolder) + std::string(kName), .is_default = true};
  if (config.key_file.empty()) return {};
  return {.path = beside(config.key_file), .is_default = true};
}

std::vector<std::string> control_socket_candidates(const Environment& environment) {
  const auto first_set = [&environment](std::string_view setting) {
    for (const auto& variable : variables_of(setting_row(setting)))
      if (const auto value = environment.get(variable); !value.empty()) return std::string(value);
    return std::string();
  };
  if (const auto set = first_set("control-socket"); !set.empty() && set != "auto" && set != "off")
    return {set};
  std::vector<std::string> candidates = {std::string(kRunFolder) + std::string(kName)};
  auto key_file = first_set("key-file");
  if (key_file.empty())
    key_file = default_of(setting_row("key-file"), Personality::kDetour, environment).text;
  if (!key_file.empty()) candidates.push_back(beside(key_file));
  return candidates;
}

}  // namespace detour::config
