#pragma once

#include <mutex>
#include <optional>
#include <utility>

#include "admin/doctor_findings.h"

namespace detour::server {

/// What `detour doctor` found when it was here last. Any thread.
class LastVisit {
 public:
  void keep(admin::DoctorVisit visit) {
    const std::lock_guard lock(mutex_);
    visit_ = std::move(visit);
  }
  /// Nothing when it has not been here since the relay started.
  [[nodiscard]] std::optional<admin::DoctorVisit> get() const {
    const std::lock_guard lock(mutex_);
    return visit_;
  }

 private:
  mutable std::mutex mutex_;
  std::optional<admin::DoctorVisit> visit_;
};

}  // namespace detour::server
