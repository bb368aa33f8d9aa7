#include "server/surveyor.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "admission/admission.h"
#include "server/certificates.h"
#include "server/http_service.h"
#include "server/shared.h"
#include "server/worker.h"

namespace detour::server {

// --- Survey

void Survey::answer(std::size_t worker, WorkerPicture picture) {
  const std::lock_guard lock(mutex_);
  parts_[worker] = std::move(picture);
  done_[worker] = true;
  answered_.notify_all();
}

bool Survey::has_answered(std::size_t worker) {
  const std::lock_guard lock(mutex_);
  return done_[worker];
}

void Survey::wait(const std::vector<bool>& asked, TimePoint deadline) {
  std::unique_lock lock(mutex_);
  answered_.wait_until(lock, deadline, [&] {
    for (std::size_t i = 0; i < asked.size(); ++i)
      if (asked[i] && !done_[i]) return false;
    return true;
  });
}

std::vector<std::optional<WorkerPicture>> Survey::take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(parts_, std::vector<std::optional<WorkerPicture>>(parts_.size()));
}

// --- Surveyor

Surveyor::Picture Surveyor::take(Duration max_age) {
  const std::lock_guard lock(mutex_);
  if (last_ && Clock::now() - last_->now <= max_age) return last_;
  auto status = survey();
  if (last_) add_rates(*status, *last_);
  last_ = std::move(status);
  return last_;
}

std::shared_ptr<admin::RelayStatus> Surveyor::survey() {
  const std::size_t workers = shared_.workers.size();
  asked_.resize(workers);
  auto survey = std::make_shared<Survey>(workers);
  std::vector<bool> asked(workers);
  for (std::size_t i = 0; i < workers && !stopping_.load(); ++i) {
    // One question at a time, so that nothing piles up with a worker that hangs.
    if (asked_[i] && !asked_[i]->has_answered(i)) continue;
    asked[i] = true;
    asked_[i] = survey;
    shared_.workers[i]->post_survey(survey);
  }
  survey->wait(asked, Clock::now() + kTimeout);

  auto status = std::make_shared<admin::RelayStatus>();
  std::vector<relay::PairSampler::Report> pairs;
  auto parts = survey->take();
  for (std::size_t i = 0; i < workers; ++i) {
    if (!parts[i]) {
      status->silent_workers.push_back(i);
      continue;
    }
    std::ranges::move(parts[i]->clients, std::back_inserter(status->clients));
    std::ranges::move(parts[i]->mesh, std::back_inserter(status->mesh));
    status->pairs_cover = std::max(status->pairs_cover, parts[i]->pairs.covers);
    pairs.push_back(std::move(parts[i]->pairs));
  }
  std::ranges::sort(status->clients, {},
                    [](const admin::ClientStatus& client) { return client.identity.id; });
  std::ranges::sort(status->mesh, {}, &admin::MeshStatus::name);
  status->pairs = admin::join_pairs(pairs, admin::kPairsShownMax);
  fill_in(*status);
  return status;
}

void Surveyor::fill_in(admin::RelayStatus& status) const {
  status.at = std::chrono::system_clock::now();
  status.now = Clock::now();
  status.started_at = shared_.started_at;
  status.started_wall = shared_.started_wall;
  status.version = shared_.config.version;
  status.public_key = shared_.public_key.typed();
  status.hostname = shared_.config.hostname;
  status.listening = shared_.listening;
  status.machine = shared_.http->machine();
  status.workers = shared_.workers.size();
  status.connections = shared_.limits.connections();
  status.totals = shared_.http->snapshot();
  if (shared_.drain.is_on()) {
    status.state = "draining";
    status.drain_left = shared_.drain.left();
  }
  if (stopping_.load()) status.state = "stopping";
  if (shared_.certificates) {
    status.unready = shared_.certificates->unready().value_or("");
    for (auto& one : shared_.certificates->status())
      status.certificates.push_back({.name = std::move(one.name),
                                     .is_serving = one.serving,
                                     .not_before = one.not_before,
                                     .not_after = one.not_after,
                                     .renewals = one.attempts,
                                     .failures = one.failures,
                                     .last_error = std::move(one.last_error)});
  }
  std::ranges::sort(status.certificates, {}, &admin::CertificateState::name);
  add_names(status);
}

void Surveyor::add_names(admin::RelayStatus& status) const {
  const admission::Admission* const admission = shared_.admission.get();
  if (admission == nullptr) return;
  const admission::Status now = admission->status();
  admin::AdmissionState& state = status.admission;
  state.is_checking = now.is_checking;
  state.allow_file = now.allow_file;
  state.allow_file_keys = admission->counters().allow_list_keys.get();
  state.allow_file_is_stale = admission->counters().allow_list_stale.get() != 0;
  for (const auto& source : now.sources)
    state.sources.push_back(
        {.kind = source.kind == admission::SourceKind::kTailscaled ? "tailscaled" : "url",
         .where = source.where,
         .was_asked = source.was_asked,
         .is_failing = source.is_failing,
         .last_error = source.last_error});
  const auto name_of = [&now](const crypto::NodePublic& key) {
    const auto found = now.names->find(key);
    return found == now.names->end() ? std::string() : found->second;
  };
  for (auto& client : status.clients) client.name = name_of(client.identity.key);
  for (auto& pair : status.pairs) {
    pair.name_a = name_of(pair.a);
    pair.name_b = name_of(pair.b);
  }
}

}  // namespace detour::server
