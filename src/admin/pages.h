#pragma once

#include <chrono>
#include <string>
#include <string_view>

namespace detour::admin {

/// `text` with the characters that mean something in HTML replaced.
[[nodiscard]] std::string escape_html(std::string_view text);

/// The page at "/": says what this is to somebody who comes by with a browser.
[[nodiscard]] std::string render_home_page(bool derp_enabled, bool link_debug);

/// What the index of the debug pages tells.
struct DebugFacts {
  std::chrono::seconds uptime;
  std::string_view version;
  std::string_view machine;   ///< Host name of the machine.
  std::string_view hostname;  ///< Name in the certificate; empty without TLS.
  bool has_mesh_key;
};
[[nodiscard]] std::string render_debug_index(const DebugFacts& facts);

/// "16m35s", "1h0m1s", "5s": as Go prints durations.
[[nodiscard]] std::string format_duration(std::chrono::seconds duration);

}  // namespace detour::admin
