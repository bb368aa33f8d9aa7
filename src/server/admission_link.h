#pragma once

#include <atomic>
#include <expected>
#include <memory>
#include <string>

#include "admission/admission.h"
#include "config/config.h"

namespace detour::server {

class Shared;

/// Joins admission to the workers: who may come in and who has to go reaches the worker of that
/// connection by its mailbox.
class AdmissionLink final : private admission::Admission::Listener {
 public:
  explicit AdmissionLink(Shared& shared) : shared_(shared) {}
  ~AdmissionLink();
  AdmissionLink(const AdmissionLink&) = delete;
  AdmissionLink& operator=(const AdmissionLink&) = delete;

  /// Takes the settings, at the start and when they changed: begins to check clients, checks by
  /// other sources, or lets everybody in again. The text says what cannot be used; nothing has
  /// changed then. Not from a worker; one at a time.
  [[nodiscard]] std::expected<void, std::string> apply(const config::Config& config);

  /// What is to be asked, null while nothing is set. Any thread; stays until stop().
  [[nodiscard]] admission::Admission* get() const {
    return current_.load(std::memory_order_acquire);
  }

  /// After the workers have ended.
  void stop();

 private:
  void decided(const admission::Login& login, const admission::Verdict& verdict) override;
  void cut_off(const admission::Login& login) override;

  Shared& shared_;
  std::unique_ptr<admission::Admission> admission_;
  std::atomic<admission::Admission*> current_{nullptr};
};

}  // namespace detour::server
