#include "server/admission_link.h"

#include "server/shared.h"
#include "server/worker.h"

namespace detour::server {

namespace {

admission::Options options_from(const config::Config& config) {
  return {.verify_clients = config.verify_clients,
          .sockets = config.tailscaled_sockets,
          .urls = config.verify_urls,
          .authorization_file = config.verify_url_auth_file,
          .fail_open = config.verify_fail_open,
          .needs_both = config.personality == config::Personality::kDerper,
          .allow_file = config.allow_file,
          .disallowed_app_names = config.disallowed_app_names,
          .user_agent = "detour/" + config.version};
}

bool asks_for_anything(const admission::Options& options) {
  return options.verify_clients || !options.urls.empty() || !options.allow_file.empty() ||
         !options.disallowed_app_names.empty();
}

}  // namespace

AdmissionLink::~AdmissionLink() {
  stop();
}

std::expected<void, std::string> AdmissionLink::apply(const config::Config& config) {
  const admission::Options options = options_from(config);
  const bool was_checking = admission_ && admission_->is_checking();
  if (admission_) {
    if (auto reloaded = admission_->reload(options); !reloaded) return reloaded;
  } else if (asks_for_anything(options)) {
    auto started = admission::Admission::start(options, *this, shared_.log);
    if (!started) return std::unexpected(started.error());
    admission_ = std::move(*started);
    current_.store(admission_.get(), std::memory_order_release);
  }
  // Who came while nobody was checked is checked now.
  if (admission_ && admission_->is_checking() && !was_checking) {
    for (const auto& worker : shared_.workers) worker->post_check_clients();
  }
  return {};
}

void AdmissionLink::stop() {
  if (admission_) admission_->stop();
}

void AdmissionLink::decided(const admission::Login& login, const admission::Verdict& verdict) {
  shared_.workers[login.worker]->post_verdict(login.id, verdict);
}

void AdmissionLink::cut_off(const admission::Login& login) {
  shared_.workers[login.worker]->post_cut_off(login.id);
}

}  // namespace detour::server
