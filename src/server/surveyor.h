#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "admin/status.h"
#include "base/clock.h"
#include "relay/pair_sampler.h"

namespace detour::server {

class Shared;

/// What one worker tells of its clients.
struct WorkerPicture {
  std::vector<admin::ClientStatus> clients;
  std::vector<admin::MeshStatus> mesh;
  relay::PairSampler::Report pairs;
};

/// One question to all workers. Shared by them and by who asked, so that a worker that answers late
/// finds somebody to answer.
class Survey {
 public:
  explicit Survey(std::size_t workers) : parts_(workers) {}

  /// By a worker, once.
  void answer(std::size_t worker, WorkerPicture picture);
  [[nodiscard]] bool has_answered(std::size_t worker);
  /// Waits until all of `asked` have answered or the deadline is over.
  void wait(const std::vector<bool>& asked, TimePoint deadline);
  /// Takes the answers that are there.
  [[nodiscard]] std::vector<std::optional<WorkerPicture>> take();

 private:
  std::mutex mutex_;
  std::condition_variable answered_;
  std::vector<std::optional<WorkerPicture>> parts_;
  std::vector<bool> done_ = std::vector<bool>(parts_.size());
};

/// Takes pictures of the running relay for those who watch it: control socket, status page, debug
/// pages.
///
/// Each worker tells of its clients a few at a time, between its turns, so that none is held up
/// however many there are. At most one survey is under way, and one picture serves all who ask
/// within a moment: who asks often costs no more than who asks now and then.
class Surveyor {
 public:
  /// How long workers may take. A picture without them is better than none.
  static constexpr Duration kTimeout = std::chrono::seconds(5);

  explicit Surveyor(Shared& shared) : shared_(shared) {}
  Surveyor(const Surveyor&) = delete;
  Surveyor& operator=(const Surveyor&) = delete;

  using Picture = std::shared_ptr<const admin::RelayStatus>;
  /// The last picture if it is not older than `max_age`, or a new one. Waits for workers: not to be
  /// called by one.
  [[nodiscard]] Picture take(Duration max_age);

  /// From now on no worker is asked: pictures show no clients.
  void begin_stop() { stopping_.store(true); }

 private:
  [[nodiscard]] std::shared_ptr<admin::RelayStatus> survey();
  void fill_in(admin::RelayStatus& status) const;
  void add_names(admin::RelayStatus& status) const;

  Shared& shared_;
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;  ///< Held while a survey is under way.
  Picture last_;
  /// Per worker the survey that it was asked for last.
  std::vector<std::shared_ptr<Survey>> asked_;
};

}  // namespace detour::server
