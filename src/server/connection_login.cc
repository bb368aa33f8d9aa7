#include <fmt/format.h>
#include <sys/socket.h>

#include <span>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "derp/handshake.h"
#include "server/connection.h"
#include "server/worker.h"

namespace detour::server {

namespace {

/// What a refused client is told, and shows to its user.
constexpr std::string_view kProblemDenied =
    "this relay does not let this node in; whoever runs it has to allow its node key";
constexpr std::string_view kProblemUndecided =
    "this relay cannot find out at the moment whether this node may use it";
/// How long a client with a name that is not let in is kept.
constexpr Duration kAppNameHold = std::chrono::seconds(5);

}  // namespace

void Connection::begin_derp(const admin::DerpUpgrade& upgrade,
                            std::span<const std::uint8_t>& input) {
  const bool in_websocket = !upgrade.websocket_head.empty();
  if (in_websocket && !begin_websocket(upgrade, input)) return;
  scratch_.counters.accepts.add();
  phase_ = Phase::kLogin;
  setup_->is_not_ideal = !upgrade.ideal_node.empty();
  std::string& greeting = setup_->unsent_greeting;
  if (!upgrade.fast_start && !in_websocket)
    greeting = http::upgrade_response(shared_.public_key.hex());
  greeting += as_text(derp::encode_server_key(shared_.public_key));
  if (setup_->served_before) worker_.timers().arm(deadline_, scratch_.now + kLoginTimeout);
}

/// Puts the WebSocket's layer in. False when the client does not speak DERP in it.
bool Connection::begin_websocket(const admin::DerpUpgrade& upgrade,
                                 std::span<const std::uint8_t>& input) {
  send_side_.send(as_bytes(upgrade.websocket_head), scratch_);
  // What came behind the head is part of the WebSocket already.
  send_side_.wrap_transport([&](std::unique_ptr<net::Transport> inner) {
    auto layer = std::make_unique<WebSocketTransport>(std::move(inner), input);
    websocket_ = layer.get();
    return layer;
  });
  input = {};
  if (!upgrade.websocket_speaks_derp) {
    refuse_websocket();
    return false;
  }
  scratch_.counters.websocket_accepts.add();
  reopen_ = true;
  return true;
}

/// Upstream matches the subprotocol loosely first (`xderp`) and strictly then.
void Connection::refuse_websocket() {
  shared_.log_gated(LogCause::kHttpRejected, LogLevel::kInfo, scratch_.now, [&] {
    return fmt::format("{} opened a WebSocket without the subprotocol \"derp\" and was closed",
                       peer_.text());
  });
  websocket_->close_with(http::WebSocketClose::kPolicyViolation);
  finish();
}

void Connection::send_greeting() {
  if (setup_->unsent_greeting.empty()) return;
  send_side_.send(as_bytes(setup_->unsent_greeting), scratch_);
  setup_->unsent_greeting.clear();
}

bool Connection::consume_login(std::span<const std::uint8_t>& input) {
  if (input.size() < derp::kFrameHeaderSize) return false;
  const auto header = derp::read_frame_header(input.first<derp::kFrameHeaderSize>());
  if (const auto admitted = derp::admit_client_info(header); !admitted) {
    refuse_login(admitted.error(), {});
    return false;
  }
  if (input.size() - derp::kFrameHeaderSize < header.payload_size) return false;
  const auto payload = input.subspan(derp::kFrameHeaderSize, header.payload_size);
  input = input.subspan(derp::kFrameHeaderSize + header.payload_size);

  const auto hello = derp::open_client_info(payload, shared_.private_key, &shared_.shared_keys);
  if (!hello) {
    refuse_login(hello.error(), payload);
    return false;
  }

  // A wrong mesh key is no offence: such a client is one like any other, as in the reference.
  const bool is_mesh_peer =
      hello->info.mesh_key && shared_.mesh_key().matches(*hello->info.mesh_key);
  splitter_ = relay::FrameSplitter(is_mesh_peer);
  set_identity({.id = shared_.directory.next_id(),
                .key = hello->key,
                .is_mesh_peer = is_mesh_peer,
                .is_not_ideal = setup_->is_not_ideal,
                .is_prober = hello->info.is_prober,
                .app_name = hello->info.app_name,
                .version = hello->info.version,
                .connected_at = scratch_.now,
                .address = peer_.mapped_bytes(),
                .port = peer_.port()});
  setup_->shared_key = hello->shared;
  // Mesh peers are not part of any tailnet, so nobody could answer for them.
  admission::Admission* const admission =
      identity().is_mesh_peer ? nullptr : shared_.admission.get();
  if (admission != nullptr && !admission->allows_app_name(identity().app_name)) {
    shared_.log_gated(LogCause::kLoginRefused, LogLevel::kWarn, scratch_.now, [&] {
      return fmt::format(
          "client {} from {} refused: it calls itself {}, which is one of "
          "-disallow-app-names",
          key().typed(), peer_.text(), identity().app_name);
    });
    refuse_client("this relay does not let this application in", kAppNameHold);
    return false;
  }
  if (admission != nullptr && admission->is_checking()) {
    await_admission(*admission);
    return false;
  }
  complete_login();
  return true;
}

admission::Login Connection::admission_login() const {
  return {
      .id = id(), .worker = worker_.index(), .subject = {.key = key(), .source = peer_.ip_text()}};
}

void Connection::await_admission(admission::Admission& admission) {
  phase_ = Phase::kAdmission;
  is_known_to_admission_ = true;
  worker_.park(*this);
  admission.log_in(admission_login());
}

void Connection::take_verdict(const admission::Verdict& verdict) {
  if (phase_ != Phase::kAdmission) return;
  if (!verdict.allowed()) {
    is_known_to_admission_ = false;
    refuse_client(
        verdict.result == admission::Verdict::Result::kDenied ? kProblemDenied : kProblemUndecided,
        verdict.hold);
    return;
  }
  complete_login();
  // What came meanwhile.
  take_input({});
  if (phase_ != Phase::kClosed && !read_pause_.is_armed()) worker_.queue_again(*this);
}

void Connection::check_client() {
  if (phase_ != Phase::kRelay || identity().is_mesh_peer || is_known_to_admission_) return;
  is_known_to_admission_ = true;
  shared_.admission.get()->take_over(admission_login());
}

void Connection::complete_login() {
  std::string greeting = std::move(setup_->unsent_greeting);
  greeting += as_text(derp::encode_server_info(*setup_->shared_key));
  setup_.reset();
  phase_ = Phase::kRelay;
  set_receive_rate(shared_.receive_rate());
  is_registered_ = true;
  begin_relay_timer();
  // ServerInfo is sealed before anybody can find this client, so nothing can overtake it; and it is
  // sent after, so a client that has seen it can be reached.
  relay::Directory::Woken woken;
  send_side_.send(as_bytes(greeting), scratch_, [&] { woken = worker_.router().add(*this); });
  worker_.wake_watchers(woken);
}

void Connection::refuse_client(std::string_view problem, Duration hold) {
  scratch_.counters.handshake_failures.add();
  send_greeting();
  // Tailscale's client shows the text in its status. It also takes the frame as a sign of life and
  // comes back at once when it is closed, so it is kept waiting here instead.
  send_side_.send(derp::encode_health(problem), scratch_);
  phase_ = Phase::kRefused;
  setup_.reset();
  drop(carry_);
  worker_.timers().arm(deadline_, scratch_.now + hold);
  if (saw_hangup_) worker_.queue_again(*this);
}

void Connection::refuse_login(Error error, std::span<const std::uint8_t> payload) {
  scratch_.counters.handshake_failures.add();
  shared_.log_gated(LogCause::kLoginRefused, LogLevel::kWarn, scratch_.now, [&] {
    std::string key_text = "of unknown key";
    if (payload.size() >= crypto::kKeySize)
      key_text = crypto::NodePublic::from_bytes(payload.first<crypto::kKeySize>()).typed();
    return fmt::format("login from {} {} refused: {}", peer_.text(), key_text,
                       describe(error.code));
  });
  send_greeting();
  close(CloseReason::kRefused);
}

}  // namespace detour::server
