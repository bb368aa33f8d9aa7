#include "server/lookup.h"

#include <netdb.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace detour::server {

namespace {

/// Addresses of one name that are tried at most.
constexpr std::size_t kAddressesMax = 8;

Lookup::Answer look_up(const std::string& host, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const int error = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
  if (error != 0)
    return std::unexpected("cannot look up '" + host + "': " +
                           (error == EAI_SYSTEM ? std::strerror(errno) : ::gai_strerror(error)));
  std::vector<net::SocketAddress> addresses;
  for (const addrinfo* at = list; at != nullptr && addresses.size() < kAddressesMax;
       at = at->ai_next) {
    sockaddr_storage storage{};
    std::memcpy(&storage, at->ai_addr, std::min<std::size_t>(sizeof storage, at->ai_addrlen));
    addresses.push_back(net::SocketAddress::from(storage));
  }
  ::freeaddrinfo(list);
  if (addresses.empty()) return std::unexpected("'" + host + "' has no address");
  return addresses;
}

}  // namespace

struct Lookup::State {
  std::mutex mutex;
  bool called_off = false;
  OnAnswer on_answer;
};

Lookup::Lookup(const std::string& host, std::uint16_t port, OnAnswer on_answer) {
  if (const auto literal = host.empty() ? std::nullopt : net::SocketAddress::parse(host, port)) {
    on_answer(std::vector{*literal});
    return;
  }
  state_ = std::make_shared<State>();
  state_->on_answer = std::move(on_answer);
  try {
    std::thread([state = state_, host, port] {
      Answer answer = look_up(host, port);
      const std::lock_guard lock(state->mutex);
      if (!state->called_off) state->on_answer(std::move(answer));
    }).detach();
  } catch (const std::system_error& error) {
    state_->on_answer(std::unexpected("cannot look up '" + host + "': " + error.what()));
  }
}

Lookup::~Lookup() {
  if (!state_) return;
  const std::lock_guard lock(state_->mutex);
  state_->called_off = true;
}

}  // namespace detour::server
