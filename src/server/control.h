#pragma once

#include <expected>
#include <memory>
#include <string>
#include <string_view>

#include "http/message.h"
#include "server/side_server.h"

namespace detour::server {

class Shared;

/// The control socket of a running relay: HTTP over a Unix socket, for `detour status`, `top`,
/// `kick`, `drain` and `doctor`. Only root and the relay's own user may ask.
///
///   GET /status?sort=ORDER&limit=N   what the relay says of itself, as JSON
///   POST /kick?key=WHOM              closes all connections of one key
///   POST /drain?over=MILLISECONDS    lets the clients go, then ends the relay
///   POST /findings                   what `detour doctor` found, as JSON, for the status page
class Control {
 public:
  /// As the configuration says. Null when there is to be none, and when the default place cannot be
  /// used, which is logged. Fails with a text for the operator when the place that was asked for
  /// cannot be used. `shared` has its workers by then and has to outlive this.
  [[nodiscard]] static std::expected<std::unique_ptr<Control>, std::string> start(Shared& shared);
  /// Removes the socket.
  ~Control();
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  Control(Shared& shared, std::string path) : shared_(shared), path_(std::move(path)) {}

  [[nodiscard]] std::expected<void, std::string> listen();
  [[nodiscard]] http::Response answer(const SideServer::Question& question);
  [[nodiscard]] http::Response answer_status(const http::Request& request);
  [[nodiscard]] http::Response answer_kick(const http::Request& request);
  [[nodiscard]] http::Response answer_drain(const http::Request& request);
  [[nodiscard]] http::Response answer_findings(std::string_view body);

  Shared& shared_;
  const std::string path_;
  bool is_bound_ = false;
  std::unique_ptr<SideServer> server_;  ///< Last, so that its thread ends first.
};

}  // namespace detour::server
