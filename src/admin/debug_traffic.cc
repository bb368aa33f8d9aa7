#include "admin/debug_traffic.h"

#include <fmt/format.h>

#include <utility>

#include "admin/routes.h"

namespace detour::admin {

std::string TrafficStream::next(const RelayStatus& status) {
  std::string text;
  std::map<relay::ClientId, Bytes> now;
  for (const ClientStatus& client : status.clients) {
    if (!client.tcp) continue;
    const Bytes bytes{client.tcp->sent_bytes, client.tcp->received_bytes};
    now.emplace(client.identity.id, bytes);
    const auto found = before_.find(client.identity.id);
    const Bytes then = found == before_.end() ? Bytes() : found->second;
    if (bytes.first <= then.first && bytes.second <= then.second) continue;
    text += fmt::format("{{\"Sent\":{},\"Recv\":{},\"Key\":\"{}\"}}\n", bytes.first, bytes.second,
                        client.identity.key.typed());
  }
  before_ = std::move(now);
  return text + "\n";
}

http::Response traffic_head() {
  http::Response head{.status = 200, .headers = {}, .body = ""};
  head.with("Content-Type", "text/plain; charset=utf-8");
  add_debug_headers(head);
  return head;
}

}  // namespace detour::admin
