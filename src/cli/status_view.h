#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstddef>
#include <string>
#include <string_view>

namespace detour::cli {

struct ViewOptions {
  bool colour = false;
  std::size_t columns = 100;
  std::size_t clients_max = 20;  ///< Lines of the list of clients.
};

/// `detour status`: what a relay said of itself, for people. Ends with a newline.
[[nodiscard]] std::string render_status(const nlohmann::ordered_json& status,
                                        const ViewOptions& options);

/// One screen of `detour top`: `rows` lines of at most `options.columns` characters. `order` is
/// what the clients are sorted by.
[[nodiscard]] std::string render_top(const nlohmann::ordered_json& status,
                                     const ViewOptions& options, std::size_t rows,
                                     std::string_view order);

/// What is not as it should be, a line each; nothing when all is well. Decides the exit status of
/// `detour status`.
[[nodiscard]] std::string troubles(const nlohmann::ordered_json& status);

/// "1.5 MB", "980 B".
[[nodiscard]] std::string bytes_text(double bytes);
/// "3d 4h", "5m 10s", "7s".
[[nodiscard]] std::string time_text(double seconds);

}  // namespace detour::cli
