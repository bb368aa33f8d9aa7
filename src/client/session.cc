#include "client/session.h"

#include <fmt/format.h>

#include <charconv>
#include <string_view>
#include <utility>

#include "base/bytes.h"

namespace detour::client {

namespace {

constexpr unsigned kSwitchingProtocols = 101;

std::string upgrade_request(const SessionOptions& options) {
  std::string request =
      fmt::format("GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: detour\r\nConnection: Upgrade\r\n",
                  options.path, options.host);
  if (options.relay_key) request += "Derp-Fast-Start: 1\r\n";
  if (!options.ideal_node.empty()) request += fmt::format("Ideal-Node: {}\r\n", options.ideal_node);
  request += "Upgrade: DERP\r\n\r\n";
  return request;
}

/// The status of "HTTP/1.1 101 Switching Protocols", or nullopt when it is no such line.
std::optional<unsigned> status_of(std::string_view head) {
  constexpr std::string_view kVersion = "HTTP/1.";
  constexpr std::size_t kStatusAt = kVersion.size() + 2;  // The minor version and a space.
  if (!head.starts_with(kVersion) || head.size() < kStatusAt + 3) return std::nullopt;
  unsigned status = 0;
  const char* begin = head.data() + kStatusAt;
  const auto [end, error] = std::from_chars(begin, begin + 3, status);
  if (error != std::errc{} || end != begin + 3) return std::nullopt;
  return status;
}

Failure http_failure(unsigned status) {
  return Failure{.layer = Layer::kHttp,
                 .message = fmt::format("the answer to the upgrade request has status {}", status),
                 .http_status = status};
}

/// A text of the relay, short and fit for a terminal.
std::string printable(std::string_view text) {
  constexpr std::size_t kTextMax = 300;
  std::string clean;
  for (const char c : text.substr(0, kTextMax)) clean += c >= 0x20 && c <= 0x7e ? c : ' ';
  return clean;
}

}  // namespace

Session::Session(SessionOptions options)
    : options_(std::move(options)),
      public_key_(options_.key.public_key()),
      state_(State::kResponse) {
  const std::string request = upgrade_request(options_);
  const auto bytes = as_bytes(request);
  output_.assign(bytes.begin(), bytes.end());
  if (!options_.relay_key) return;

  relay_key_ = *options_.relay_key;
  state_ = State::kServerKey;
  if (auto queued = queue_client_info(); !queued) (void)failed(std::move(queued.error()));
}

std::vector<std::uint8_t> Session::take_output() {
  return std::exchange(output_, {});
}

Outcome<std::optional<Frame>> Session::next(std::span<const std::uint8_t>* bytes) {
  if (state_ == State::kFailed) return std::unexpected(*failure_);
  // A relay that refuses the upgrade answers in HTTP although fast start promises frames only.
  const bool refused = state_ == State::kServerKey && used_fast_start() && !bytes->empty() &&
                       bytes->front() == 'H' && frames_.torn_size() == 0;
  if (refused) state_ = State::kResponse;
  if (state_ == State::kResponse) {
    auto complete = read_response(bytes);
    if (!complete) return failed(std::move(complete.error()));
    if (!*complete) return std::nullopt;
  }
  for (;;) {
    auto frame = frames_.next(bytes);
    if (!frame) {
      const Layer layer = is_open() ? Layer::kRelay : Layer::kLogin;
      return failed({.layer = layer, .message = std::string(describe(frame.error().code))});
    }
    if (!*frame || is_open()) return *frame;
    auto handled = handle_login_frame(**frame);
    if (!handled) return failed(std::move(handled.error()));
    if (is_open()) return std::nullopt;
  }
}

Failure Session::ended() const {
  switch (state_) {
    case State::kResponse:
      return {.layer = Layer::kHttp,
              .message = "the connection was closed without an answer to the upgrade request"};
    case State::kServerKey:
      return {.layer = Layer::kLogin, .message = "the connection was closed before ServerKey came"};
    case State::kServerInfo:
      return {.layer = Layer::kLogin,
              .message =
                  "the relay closed the connection instead of answering the login, which is "
                  "how it refuses a key"};
    case State::kOpen:
      return {.layer = Layer::kRelay, .message = "the relay closed the connection"};
    case State::kFailed:
      return *failure_;
  }
  return {.layer = Layer::kRelay, .message = "the connection was closed"};
}

Outcome<bool> Session::read_response(std::span<const std::uint8_t>* bytes) {
  constexpr std::string_view kEnd = "\r\n\r\n";
  // The end may be torn over two reads, so look again at the last three bytes.
  const std::size_t search_from = head_.size() < kEnd.size() ? 0 : head_.size() - kEnd.size() + 1;
  const std::size_t old_size = head_.size();
  const auto part = as_text(bytes->first(std::min(bytes->size(), kResponseHeadMax - old_size)));
  head_.append(part);
  const std::size_t end = head_.find(kEnd, search_from);
  if (end == std::string::npos) {
    if (head_.size() >= kResponseHeadMax)
      return give_up(Layer::kHttp, "the answer to the upgrade request has no end within 16 KiB");
    *bytes = bytes->subspan(part.size());
    return false;
  }
  const std::size_t head_size = end + kEnd.size();
  *bytes = bytes->subspan(head_size - old_size);
  const auto status = status_of(head_);
  if (!status) return give_up(Layer::kHttp, "the answer to the upgrade request is not HTTP/1");
  if (*status != kSwitchingProtocols) return std::unexpected(http_failure(*status));
  head_ = {};
  state_ = State::kServerKey;
  return true;
}

Outcome<void> Session::handle_login_frame(const Frame& frame) {
  if (state_ == State::kServerKey) {
    if (frame.type != derp::FrameType::kServerKey)
      return give_up(Layer::kLogin, "the first frame is not ServerKey");
    const auto key = derp::read_server_key(frame.payload);
    if (!key) return give_up(Layer::kLogin, std::string(describe(key.error().code)));
    if (options_.relay_key && *options_.relay_key != *key)
      return give_up(Layer::kLogin, "ServerKey and the meta certificate name different relay keys");
    state_ = State::kServerInfo;
    if (options_.relay_key) return {};
    relay_key_ = *key;
    return queue_client_info();
  }
  if (frame.type == derp::FrameType::kHealth)
    return give_up(Layer::kLogin, fmt::format("the relay refuses this key and says why: {}",
                                              printable(as_text(frame.payload))));
  if (frame.type != derp::FrameType::kServerInfo)
    return give_up(Layer::kLogin, "the frame behind ServerKey is not ServerInfo");
  const auto version = derp::open_server_info(frame.payload, *shared_);
  if (!version)
    return give_up(Layer::kLogin,
                   fmt::format("ServerInfo is wrong: {}", describe(version.error().code)));
  state_ = State::kOpen;
  return {};
}

Outcome<void> Session::queue_client_info() {
  auto shared = crypto::SharedKey::derive(options_.key, relay_key_);
  if (!shared) return give_up(Layer::kLogin, "the relay's key is zero or a low-order point");
  shared_ = *shared;
  const auto frame = derp::encode_client_info(public_key_, *shared_, options_.info);
  output_.insert(output_.end(), frame.begin(), frame.end());
  return {};
}

std::unexpected<Failure> Session::failed(Failure failure) {
  state_ = State::kFailed;
  failure_ = std::move(failure);
  return std::unexpected(*failure_);
}

}  // namespace detour::client
