#include "client/failure.h"

#include <fmt/format.h>

namespace detour::client {

std::string_view layer_name(Layer layer) {
  switch (layer) {
    case Layer::kAddress:
      return "address";
    case Layer::kTcp:
      return "TCP";
    case Layer::kTls:
      return "TLS";
    case Layer::kHttp:
      return "HTTP";
    case Layer::kLogin:
      return "login";
    case Layer::kRelay:
      return "relay";
  }
  return "unknown layer";
}

std::string Failure::text() const {
  return fmt::format("{}: {}", layer_name(layer), message);
}

}  // namespace detour::client
