#include "doctor/wire.h"

#include <fmt/format.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <string>

#include "acme/openssl.h"
#include "client/dial.h"

namespace detour::doctor {
namespace {

constexpr std::string_view kMetaPrefix = "derpkey";

/// SSL_set_tlsext_host_name() without the casts of its macro. OpenSSL copies the name.
void send_server_name(SSL* ssl, std::string name) {
  if (name.empty()) return;
  SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, name.data());
}

void set_versions(SSL_CTX* context, client::TlsVersions versions) {
  const bool only13 = versions == client::TlsVersions::kOnly13;
  const bool only12 = versions == client::TlsVersions::kOnly12;
  SSL_CTX_set_min_proto_version(context, only13 ? TLS1_3_VERSION : TLS1_2_VERSION);
  SSL_CTX_set_max_proto_version(context, only12 ? TLS1_2_VERSION : TLS1_3_VERSION);
}

bool is_not_tls(int reason) {
  return reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST ||
         reason == SSL_R_HTTPS_PROXY_REQUEST || reason == SSL_R_PACKET_LENGTH_TOO_LONG;
}

void take_certificates(SSL* ssl, TlsAnswer* answer) {
  const STACK_OF(X509)* chain = SSL_get_peer_cert_chain(ssl);
  for (int i = 0; i < sk_X509_num(chain); ++i) {
    X509* certificate = sk_X509_value(chain, i);
    const std::string name = acme::subject_text(certificate);
    if (name.starts_with(kMetaPrefix)) {
      const auto key = crypto::NodePublic::parse("nodekey:" + name.substr(kMetaPrefix.size()));
      if (key) answer->meta_key = *key;
      continue;
    }
    X509_up_ref(certificate);
    answer->certificates.emplace_back(certificate);
  }
}

}  // namespace

Wire::Connected Wire::connect(const net::SocketAddress& address, Duration timeout) {
  ssl_.reset();
  context_.reset();
  received_.clear();
  const TimePoint start = Clock::now();
  const auto ended = [start](int error) {
    return Connected{.error = error, .time = Clock::now() - start};
  };
  fd_ = net::UniqueFd(socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd_) return ended(errno);
  const int on = 1;
  (void)setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (::connect(fd_.get(), address.get(), address.size()) == 0) return ended(0);
  if (errno != EINPROGRESS) return ended(errno);
  if (!client::wait_for(fd_.get(), POLLOUT, start + timeout)) return ended(ETIMEDOUT);
  int error = 0;
  socklen_t size = sizeof error;
  if (getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  return ended(error);
}

bool Wire::wait_for_ssl(int result, TimePoint deadline) const {
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      return client::wait_for(fd_.get(), POLLIN, deadline);
    case SSL_ERROR_WANT_WRITE:
      return client::wait_for(fd_.get(), POLLOUT, deadline);
    default:
      return false;
  }
}

TlsAnswer Wire::handshake(const TlsAsk& ask) {
  const TimePoint start = Clock::now();
  const TimePoint deadline = start + ask.timeout;
  TlsAnswer answer;
  context_.reset(SSL_CTX_new(TLS_client_method()));
  set_versions(context_.get(), ask.versions);
  SSL_CTX_set_verify(context_.get(), SSL_VERIFY_NONE, nullptr);
  ssl_.reset(SSL_new(context_.get()));
  SSL_set_fd(ssl_.get(), fd_.get());
  send_server_name(ssl_.get(), ask.server_name);
  for (;;) {
    ERR_clear_error();
    errno = 0;
    const int result = SSL_connect(ssl_.get());
    answer.time = Clock::now() - start;
    if (result == 1) break;
    const int system_error = errno;
    const int error = SSL_get_error(ssl_.get(), result);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
      if (wait_for_ssl(result, deadline)) continue;
      answer.end = TlsAnswer::End::kSilent;
      return answer;
    }
    const unsigned long code = ERR_peek_last_error();
    const int reason = ERR_GET_REASON(code);
    const char* text = ERR_reason_error_string(code);
    answer.reason = text != nullptr ? text : "";
    if (error == SSL_ERROR_SYSCALL) {
      answer.end = system_error == ECONNRESET || system_error == EPIPE ? TlsAnswer::End::kReset
                                                                       : TlsAnswer::End::kClosed;
    } else if (ERR_GET_LIB(code) == ERR_LIB_SSL && reason == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
      answer.end = TlsAnswer::End::kClosed;
    } else if (ERR_GET_LIB(code) == ERR_LIB_SSL && is_not_tls(reason)) {
      answer.end = TlsAnswer::End::kNotTls;
    } else if (ERR_GET_LIB(code) == ERR_LIB_SSL && reason >= SSL_AD_REASON_OFFSET) {
      answer.end = TlsAnswer::End::kAlert;
      answer.alert = reason - SSL_AD_REASON_OFFSET;
    }
    ERR_clear_error();
    return answer;
  }
  answer.end = TlsAnswer::End::kDone;
  answer.version = SSL_get_version(ssl_.get());
  answer.cipher = SSL_get_cipher_name(ssl_.get());
  take_certificates(ssl_.get(), &answer);
  return answer;
}

bool Wire::write(std::string_view bytes, TimePoint deadline) {
  while (!bytes.empty()) {
    if (ssl_) {
      ERR_clear_error();
      std::size_t size = 0;
      const int result = SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &size);
      if (result == 1) {
        bytes.remove_prefix(size);
      } else if (!wait_for_ssl(result, deadline)) {
        return false;
      }
      continue;
    }
    const ssize_t sent = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    } else if ((errno != EAGAIN && errno != EINTR) ||
               !client::wait_for(fd_.get(), POLLOUT, deadline)) {
      return false;
    }
  }
  return true;
}

bool Wire::read_more(TimePoint deadline) {
  std::array<char, 16 * 1024> buffer;
  for (;;) {
    if (ssl_) {
      ERR_clear_error();
      std::size_t size = 0;
      const int result = SSL_read_ex(ssl_.get(), buffer.data(), buffer.size(), &size);
      if (result == 1) {
        received_.append(buffer.data(), size);
        return true;
      }
      if (!wait_for_ssl(result, deadline)) return false;
      continue;
    }
    const ssize_t size = recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (size > 0) {
      received_.append(buffer.data(), static_cast<std::size_t>(size));
      return true;
    }
    if (size == 0 || (errno != EAGAIN && errno != EINTR)) return false;
    if (!client::wait_for(fd_.get(), POLLIN, deadline)) return false;
  }
}

std::optional<HttpAnswer> Wire::ask(std::string_view request, Duration timeout) {
  const TimePoint deadline = Clock::now() + timeout;
  // A server that refuses early may answer before it has read all.
  (void)write(request, deadline);
  auto answer = parse_answer_head(received_);
  while (!answer) {
    if (!read_more(deadline)) return std::nullopt;
    answer = parse_answer_head(received_);
  }
  received_.erase(0, answer->head_size);
  if (answer->status == 101 || answer->status == 204 || answer->status == 304) return answer;

  std::size_t size = kAnswerBodyMax;
  const auto length = answer->header("Content-Length");
  (void)std::from_chars(length.data(), length.data() + length.size(), size);
  size = std::min(size, kAnswerBodyMax);
  const bool chunked =
      answer->header("Transfer-Encoding").find("chunked") != std::string_view::npos;
  while (received_.size() < size && !(chunked && received_.ends_with("0\r\n\r\n"))) {
    if (!read_more(deadline)) break;
  }
  answer->body = received_.substr(0, size);
  received_.erase(0, answer->body.size());
  return answer;
}

std::optional<std::string> Wire::read_exactly(std::size_t size, Duration timeout) {
  const TimePoint deadline = Clock::now() + timeout;
  while (received_.size() < size) {
    if (!read_more(deadline)) return std::nullopt;
  }
  std::string bytes = received_.substr(0, size);
  received_.erase(0, size);
  return bytes;
}

}  // namespace detour::doctor
