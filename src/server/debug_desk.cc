#include "server/debug_desk.h"

#include <algorithm>
#include <utility>

#include "server/http_service.h"
#include "server/shared.h"
#include "server/surveyor.h"
#include "server/worker.h"

namespace detour::server {
namespace {

/// Who looks at a page again and again does not make the workers tell of their clients each time.
constexpr Duration kPictureAge = std::chrono::milliseconds(200);

}  // namespace

DebugDesk::~DebugDesk() {
  stop();
}

bool DebugDesk::ask(const Asker& asker, admin::SlowPage page, http::Request request) {
  const std::lock_guard lock(mutex_);
  if (stopping_) return false;
  if (page == admin::SlowPage::kTraffic) {
    if (streams_.size() + streams_at_work_ >= kStreamsMax) return false;
    streams_.push_back({.asker = asker, .request = std::move(request)});
  } else {
    if (questions_.size() >= kWaitingMax) return false;
    questions_.push_back({.asker = asker, .request = std::move(request)});
  }
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  changed_.notify_one();
  return true;
}

void DebugDesk::left(relay::ClientId id) {
  const std::lock_guard lock(mutex_);
  std::erase_if(streams_, [id](const Stream& stream) { return stream.asker.id == id; });
  std::erase_if(questions_, [id](const Question& question) { return question.asker.id == id; });
  gone_.push_back(id);
}

void DebugDesk::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

TimePoint DebugDesk::next_round() const {
  TimePoint next = TimePoint::max();
  for (const Stream& stream : streams_) next = std::min(next, stream.next_at);
  return next;
}

void DebugDesk::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    const auto has_work = [this] {
      return stopping_ || !questions_.empty() || next_round() <= Clock::now();
    };
    // Without a stream there is no time to wake up at, and the largest one would overflow.
    if (streams_.empty()) {
      changed_.wait(lock, has_work);
    } else {
      changed_.wait_until(lock, next_round(), has_work);
    }
    if (stopping_) return;
    gone_.clear();
    if (!questions_.empty()) {
      const Question question = std::move(questions_.front());
      questions_.pop_front();
      lock.unlock();
      answer(question);
      lock.lock();
      continue;
    }
    const auto due = std::ranges::find_if(
        streams_, [](const Stream& stream) { return stream.next_at <= Clock::now(); });
    if (due == streams_.end()) continue;
    // Out of the list while it is worked on, since others may leave meanwhile.
    Stream stream = std::move(*due);
    streams_.erase(due);
    streams_at_work_ = 1;
    lock.unlock();
    go_on(stream);
    stream.next_at = Clock::now() + kStreamPeriod;
    lock.lock();
    streams_at_work_ = 0;
    if (std::ranges::find(gone_, stream.asker.id) == gone_.end())
      streams_.push_back(std::move(stream));
  }
}

void DebugDesk::answer(const Question& question) const {
  const auto picture = shared_.surveyor->take(kPictureAge);
  const http::Response response = admin::answer_clients(question.request, *picture);
  shared_.workers[question.asker.worker]->post_answer(
      question.asker.id, http::serialize(response, question.request, HttpService::unix_seconds()),
      /*is_last=*/true);
}

void DebugDesk::go_on(Stream& stream) const {
  std::string text;
  if (!std::exchange(stream.has_head, true))
    text = http::serialize_stream_head(admin::traffic_head(), stream.request,
                                       HttpService::unix_seconds());
  // Whoever asks for the head alone gets no stream.
  const bool is_last = stream.request.method == "HEAD";
  if (!is_last) {
    const auto picture = shared_.surveyor->take(kPictureAge);
    text += http::stream_piece(stream.traffic.next(*picture), stream.request);
  }
  shared_.workers[stream.asker.worker]->post_answer(stream.asker.id, std::move(text), is_last);
}

}  // namespace detour::server
