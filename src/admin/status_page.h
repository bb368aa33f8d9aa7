#pragma once

#include <string_view>

#include "http/message.h"

/// The status page: one HTML file with its scripts and styles in it, made from web/ and compiled
/// in.
namespace detour::admin {

/// The file. Lives for ever.
[[nodiscard]] std::string_view status_page_html();
/// Its Content-Security-Policy: the script and the style in it, by their hashes, and questions to
/// where it came from. Lives for ever.
[[nodiscard]] std::string_view status_page_policy();

/// The page as an answer.
[[nodiscard]] http::Response status_page();

}  // namespace detour::admin
