#pragma once

#include <optional>
#include <string_view>

#include "http/message.h"

/// Who may see the status page (docs/security.md). Without a token: people on this machine, with a
/// browser that no other site has misled. With one: who brings it.
namespace detour::admin {

/// A request to the listener of the status page.
struct PageCall {
  const http::Request& request;
  std::string_view peer_ip;  ///< The address of the connection, as text.
  std::string_view token;    ///< Empty = none is set.
};

/// Whether `request` brings `token` as `Authorization: Bearer ...`. Compared in constant time.
[[nodiscard]] bool has_bearer_token(const http::Request& request, std::string_view token);

/// The answer to who may not have the page itself, which holds nothing of the relay; nothing for
/// who may.
[[nodiscard]] std::optional<http::Response> refuse_page(const PageCall& call);

/// The answer to who may not have what the page shows; nothing for who may. Asks for the token
/// where there is one, and lets no other site have the data in any case.
[[nodiscard]] std::optional<http::Response> refuse_page_data(const PageCall& call);

}  // namespace detour::admin
