#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <mutex>
#include <utility>

#include "acme/control_thread.h"
#include "acme/keeper.h"
#include "acme/openssl.h"

namespace detour::acme {
namespace {

/// What tells that a file is another one, or has other content.
struct Fingerprint {
  bool exists = false;
  dev_t device = 0;
  ino_t inode = 0;
  off_t size = 0;
  std::int64_t changed_ns = 0;

  friend bool operator==(const Fingerprint&, const Fingerprint&) = default;
};

Fingerprint fingerprint(const std::string& path) {
  struct stat status{};
  // Follows links: certbot's `live` folder consists of them.
  if (::stat(path.c_str(), &status) != 0) return {};
  return {
      .exists = true,
      .device = status.st_dev,
      .inode = status.st_ino,
      .size = status.st_size,
      .changed_ns = std::int64_t{1'000'000'000} * status.st_mtim.tv_sec + status.st_mtim.tv_nsec};
}

using Fingerprints = std::array<Fingerprint, 2>;

/// The same for messages that differ in dates and counts alone.
std::string without_digits(std::string text) {
  std::erase_if(text, [](unsigned char c) { return std::isdigit(c) != 0; });
  return text;
}

void log_lines(Log& log, LogLevel level, std::string_view text) {
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    log.write(level, text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

class FileKeeper final : public CertificateKeeper {
 public:
  FileKeeper(CertificateRequest request, const ServerCertificate& current, CertificateSink sink,
             Log& log, Duration interval)
      : identifier_{.value = request.hostname, .is_ip = !ip_bytes(request.hostname).empty()},
        sink_(std::move(sink)),
        log_(log),
        interval_(interval),
        request_(std::move(request)),
        files_(certificate_files(request_)),
        pin_(current.pin),
        self_signed_(current.self_signed),
        loaded_(look()),
        seen_(loaded_),
        reminded_at_(Clock::now()) {
    request_.make_if_missing = false;
    status_.name = request_.hostname;
    note(current);
    thread_.emplace([this](const std::stop_token&, bool was_woken) { return step(was_woken); });
  }

  void check_now() override { thread_->wake(); }
  void check_now(CertificateRequest request) override {
    {
      const std::lock_guard lock(mutex_);
      next_request_ = std::move(request);
    }
    thread_->wake();
  }
  void request_stop() override { thread_->request_stop(); }

  [[nodiscard]] std::vector<CertificateStatus> status() const override {
    const std::lock_guard lock(mutex_);
    return {status_};
  }

 private:
  [[nodiscard]] Fingerprints look() const {
    return {fingerprint(files_.cert), fingerprint(files_.key)};
  }

  void note(const ServerCertificate& certificate) {
    const std::lock_guard lock(mutex_);
    status_.serving = true;
    status_.not_before = certificate.not_before;
    status_.not_after = certificate.not_after;
  }

  Duration step(bool was_woken) {
    take_next_request();
    remind_of_expiry();
    const Fingerprints now = look();
    const bool settled = now == seen_;
    seen_ = now;
    if (was_woken || (settled && now != loaded_)) reload(now);
    return interval_;
  }

  void take_next_request() {
    const std::lock_guard lock(mutex_);
    if (!next_request_) return;
    // What the certificate has to be for, and how, stays as it was at the start.
    request_.cert_dir = next_request_->cert_dir;
    request_.cert_file = next_request_->cert_file;
    request_.key_file = next_request_->key_file;
    files_ = certificate_files(request_);
    next_request_.reset();
  }

  void reload(const Fingerprints& files) {
    loaded_ = files;
    CertificateRequest request = request_;
    request.now = std::chrono::system_clock::now();
    auto loaded = load_certificate(request);
    if (!loaded) return fail(loaded.error());
    if (loaded->pin == pin_) {
      succeed();
      return;
    }
    const std::array kept{KeptCertificate{.identifier = identifier_, .certificate = *loaded}};
    if (auto served = sink_.serve(kept); !served) return fail("certificate: " + served.error());

    succeed();
    note(*loaded);
    log_.info(
        fmt::format("certificate: the new one in {} is served from now on, valid until {}; "
                    "connections that are there keep the old one",
                    loaded->cert_file, to_text(loaded->not_after)));
    for (const auto& notice : loaded->notices) log_.info(notice);
    for (const auto& warning : loaded->warnings) log_.warn(warning);
    if (self_signed_ || loaded->self_signed)
      log_.warn(
          fmt::format("certificate: clients that pin the one before ({}) are refused from "
                      "now on: the DERP map has to say \"CertName\": \"{}\"",
                      pin_, loaded->pin));
    pin_ = loaded->pin;
    self_signed_ = loaded->self_signed;
  }

  void succeed() {
    said_.clear();
    const std::lock_guard lock(mutex_);
    ++status_.attempts;
    status_.last_error.clear();
  }

  void fail(const std::string& why) {
    {
      const std::lock_guard lock(mutex_);
      ++status_.attempts;
      ++status_.failures;
      status_.last_error = why;
    }
    // Files are touched again and again until they are right; each cause is said once.
    if (std::exchange(said_, without_digits(why)) == said_) return;
    log_lines(log_, LogLevel::kError, why);
    log_.error(
        fmt::format("certificate: the new files are not used; the one from before is served "
                    "on, it is valid until {}",
                    to_text(status().front().not_after)));
  }

  void remind_of_expiry() {
    if (Clock::now() - reminded_at_ < kExpiryReminder) return;
    reminded_at_ = Clock::now();
    const auto now = std::chrono::system_clock::now();
    const auto ends = status().front().not_after;
    if (now > ends) {
      log_.error(
          fmt::format("certificate: {} expired at {} and clients refuse it: renew it; new "
                      "files are picked up by themselves",
                      files_.cert, to_text(ends)));
    } else if (ends - now < request_.expires_soon) {
      log_.warn(
          fmt::format("certificate: {} expires at {}: renew it; new files are picked up by "
                      "themselves",
                      files_.cert, to_text(ends)));
    }
  }

  const Identifier identifier_;
  const CertificateSink sink_;
  Log& log_;
  const Duration interval_;

  // Of the thread alone.
  CertificateRequest request_;
  CertificateFiles files_;
  std::string pin_;
  bool self_signed_;
  Fingerprints loaded_;  ///< The files as they were last read, whether that went well or not.
  Fingerprints seen_;    ///< As they were at the last look.
  std::string said_;     ///< The last failure, without its digits.
  TimePoint reminded_at_;

  mutable std::mutex mutex_;
  CertificateStatus status_;
  std::optional<CertificateRequest> next_request_;
  std::optional<ControlThread> thread_;  ///< Last, so that it ends first.
};

}  // namespace

std::unique_ptr<CertificateKeeper> keep_files(CertificateRequest request,
                                              const ServerCertificate& current,
                                              CertificateSink sink, Log& log, Duration interval) {
  return std::make_unique<FileKeeper>(std::move(request), current, std::move(sink), log, interval);
}

}  // namespace detour::acme
