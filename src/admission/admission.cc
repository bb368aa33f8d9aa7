#include "admission/admission.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <optional>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "admission/curl_inquirer.h"
#include "base/files.h"

namespace detour::admission {
namespace {

constexpr std::size_t kAuthorizationMax = 8192;
/// A source that goes on failing is named again after this long.
constexpr Duration kSourceLogPeriod = std::chrono::seconds(60);
/// Refusals and cut-offs, of different clients: lines at once, and then one in that time.
constexpr std::uint32_t kLogBurst = 20;
constexpr Duration kLogPeriod = std::chrono::seconds(5);
/// Longest sleep without anything to do.
constexpr Duration kIdle = std::chrono::seconds(30);

/// What tells one content of a file from another without reading it.
struct FileStamp {
  bool exists = false;
  ino_t inode = 0;
  off_t size = 0;
  std::int64_t seconds = 0;
  std::int64_t nanoseconds = 0;

  static FileStamp of(const std::string& path) {
    struct stat status{};
    if (path.empty() || ::stat(path.c_str(), &status) != 0) return {};
    return {.exists = true,
            .inode = status.st_ino,
            .size = status.st_size,
            .seconds = status.st_mtim.tv_sec,
            .nanoseconds = status.st_mtim.tv_nsec};
  }
  friend bool operator==(const FileStamp&, const FileStamp&) = default;
};

std::expected<AllowList, std::string> read_allow_file(const std::string& path) {
  if (path.empty()) return AllowList();
  const auto content = read_file(path, kAllowFileSizeMax);
  if (!content) return std::unexpected("allow file " + content.error().message);
  return AllowList::parse(path, *content);
}

std::expected<std::string, std::string> read_authorization(const std::string& path) {
  if (path.empty()) return std::string();
  const auto content = read_file(path, kAuthorizationMax);
  if (!content) return std::unexpected("--verify-client-url-auth-file " + content.error().message);
  constexpr std::string_view kWhiteSpace = " \t\r\n";
  const std::size_t begin = content->find_first_not_of(kWhiteSpace);
  if (begin == std::string::npos)
    return std::unexpected(fmt::format(
        "--verify-client-url-auth-file {}: is empty; write what the Authorization header has to "
        "say, for example Bearer and a token",
        path));
  std::string text = content->substr(begin, content->find_last_not_of(kWhiteSpace) + 1 - begin);
  const auto is_control = [](char c) {
    return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
  };
  if (std::ranges::any_of(text, is_control))
    return std::unexpected(fmt::format(
        "--verify-client-url-auth-file {}: has more than one line or control characters; write one "
        "line, for example Bearer and a token",
        path));
  return text;
}

}  // namespace

/// What the thread of admission works on; nobody else touches it once the thread runs.
class Admission::Thread final : public JudgeActions {
 public:
  struct Setup {
    Options options;
    Policy policy{};
    std::vector<Source> sources{};
    AllowList list{};
    FileStamp list_stamp{};
    std::string authorization{};
    FileStamp authorization_stamp{};

    /// Checks the settings and reads the files.
    static std::expected<Setup, std::string> make(const Options& options);
  };

  explicit Thread(Admission& owner)
      : owner_(owner), inquirer_(owner.user_agent_), judge_(*this, owner.counters_) {}

  void set_up(Setup setup, TimePoint now);
  void run();
  /// Any thread.
  void wake() { inquirer_.wake(); }
  void request_stop() { stopping_.store(true); }

  [[nodiscard]] Judge& judge() { return judge_; }
  [[nodiscard]] TimePoint now() const { return now_; }

 private:
  struct SourceState {
    bool is_failing = false;  ///< And that was logged.
    std::optional<TimePoint> logged_at{};
    std::uint64_t failures = 0;  ///< Since it was last logged.
  };

  void ask(QueryId id, std::size_t source, const Subject& subject) override;
  void decided(const Login& login, const Verdict& verdict) override;
  void cut_off(const Login& login, const std::string& reason) override;

  void note_answer(const CurlInquirer::Answered& answered);
  void note_status(const CurlInquirer::Answered& answered, bool has_answer);
  void check_files();
  void check_allow_file();
  void check_authorization();
  void log_gated(LogGate& gate, const std::string& message);

  Admission& owner_;
  Setup setup_{};
  CurlInquirer inquirer_;
  Judge judge_;
  TimePoint now_ = Clock::now();
  TimePoint files_checked_at_{};
  std::unordered_map<std::string, SourceState> source_states_;
  std::string authorization_fault_;
  LogGate refusals_gate_{kLogBurst, kLogPeriod};
  std::atomic<bool> stopping_{false};
};

// --- Settings

std::expected<Admission::Thread::Setup, std::string> Admission::Thread::Setup::make(
    const Options& options) {
  Setup setup{.options = options};
  if (options.verify_clients) {
    std::vector<std::string> sockets = options.sockets;
    if (sockets.empty()) sockets.emplace_back();
    for (const std::string& socket : sockets) {
      constexpr std::size_t kPathMax = 107;
      if (socket.size() > kPathMax)
        return std::unexpected(
            fmt::format("tailscaled's socket {}: the path is longer than {} bytes, which sockets "
                        "cannot have; use a shorter one",
                        socket, kPathMax));
      setup.sources.push_back({.kind = SourceKind::kTailscaled, .where = socket});
    }
    setup.policy.sockets = sockets.size();
  }
  for (const std::string& url : options.urls) {
    if (auto fault = CurlInquirer::fault_of_url(url); !fault.empty()) return std::unexpected(fault);
    setup.sources.push_back({.kind = SourceKind::kUrl, .where = url});
  }
  setup.policy.controllers = options.urls.size();
  if (std::max(setup.policy.sockets, setup.policy.controllers) > kSourcesMax)
    return std::unexpected(
        fmt::format("at most {} tailscaled sockets and {} admission URLs can be asked; name fewer",
                    kSourcesMax, kSourcesMax));
  setup.policy.has_allow_list = !options.allow_file.empty();
  setup.policy.needs_both = options.needs_both;
  setup.policy.fail_open = options.fail_open;

  // The stamp is taken first: what changes while we read is read again.
  setup.list_stamp = FileStamp::of(options.allow_file);
  auto list = read_allow_file(options.allow_file);
  if (!list) return std::unexpected(list.error());
  setup.list = std::move(*list);
  setup.authorization_stamp = FileStamp::of(options.authorization_file);
  auto authorization = read_authorization(options.authorization_file);
  if (!authorization) return std::unexpected(authorization.error());
  setup.authorization = std::move(*authorization);
  return setup;
}

void Admission::Thread::set_up(Setup setup, TimePoint now) {
  setup_ = std::move(setup);
  source_states_.clear();
  authorization_fault_.clear();
  owner_.counters_.allow_list_stale.set(0);
  now_ = now;
  {
    const std::lock_guard lock(owner_.status_mutex_);
    Status& status = owner_.status_;
    status = {.is_checking = !setup_.policy.lets_everybody_in(),
              .allow_file = setup_.options.allow_file,
              .names = setup_.list.names()};
    for (const Source& source : setup_.sources)
      status.sources.push_back({.kind = source.kind, .where = source.where});
  }
  judge_.set_policy(setup_.policy, std::move(setup_.list), now);
  setup_.list = {};
}

// --- The loop

void Admission::Thread::run() {
  std::vector<Task> tasks;
  while (!stopping_.load()) {
    const TimePoint due = std::min(judge_.next_due().value_or(TimePoint::max()),
                                   files_checked_at_ + kFileCheckPeriod);
    const auto answers =
        inquirer_.run(std::clamp<Duration>(due - Clock::now(), Duration::zero(), kIdle));
    now_ = Clock::now();
    for (const auto& answered : answers) {
      note_answer(answered);
      judge_.answered(answered.id, answered.reply, now_);
    }
    {
      const std::lock_guard lock(owner_.posted_mutex_);
      std::swap(tasks, owner_.posted_);
    }
    for (Task& task : tasks) task(*this);
    tasks.clear();
    check_files();
    judge_.tick(now_);
  }
}

void Admission::Thread::ask(QueryId id, std::size_t source, const Subject& subject) {
  Source chosen = setup_.sources[source];
  // Looked for anew each time: tailscaled may be installed or started later.
  if (chosen.kind == SourceKind::kTailscaled && chosen.where.empty())
    chosen.where = default_tailscaled_socket();
  inquirer_.ask(id, chosen, subject.key, subject.source, setup_.authorization);
}

void Admission::Thread::decided(const Login& login, const Verdict& verdict) {
  if (!verdict.log_reason.empty()) {
    log_gated(refusals_gate_,
              fmt::format("client {} from {} refused: {}", login.subject.key.typed(),
                          login.subject.source, verdict.log_reason));
  } else if (verdict.result == Verdict::Result::kFailedOpen) {
    log_gated(refusals_gate_, fmt::format("client {} from {} let in unchecked: no admission "
                                          "controller can be reached and "
                                          "--verify-client-url-fail-open is set",
                                          login.subject.key.typed(), login.subject.source));
  }
  owner_.listener_.decided(login, verdict);
}

void Admission::Thread::cut_off(const Login& login, const std::string& reason) {
  log_gated(refusals_gate_, fmt::format("client {} from {} cut off: {}", login.subject.key.typed(),
                                        login.subject.source, reason));
  owner_.listener_.cut_off(login);
}

void Admission::Thread::log_gated(LogGate& gate, const std::string& message) {
  std::uint64_t suppressed = 0;
  if (!gate.admit(now_, &suppressed)) return;
  owner_.log_.warn(
      suppressed == 0 ? message
                      : fmt::format("{} ({} more like this were not logged)", message, suppressed));
}

void Admission::Thread::note_answer(const CurlInquirer::Answered& answered) {
  const Reply& reply = answered.reply;
  auto& counters = owner_.counters_;
  counters.answers[static_cast<std::size_t>(answered.kind)][static_cast<std::size_t>(reply.answer)]
      .add();
  counters.query_milliseconds.observe(static_cast<std::uint64_t>(
      std::chrono::ceil<std::chrono::milliseconds>(answered.took).count()));

  const bool has_answer = reply.answer == Answer::kAllowed || reply.answer == Answer::kDenied;
  note_status(answered, has_answer);
  SourceState& state = source_states_[answered.where];
  if (has_answer) {
    if (std::exchange(state.is_failing, false))
      owner_.log_.info(fmt::format("{} answers again", answered.where));
    return;
  }
  ++state.failures;
  // A source that fails now and then, under load, gets a line a minute as well.
  if (state.logged_at && now_ - *state.logged_at < kSourceLogPeriod) return;
  owner_.log_.error(fmt::format("cannot check clients: {} ({} failed since the last such line)",
                                reply.reason, state.failures));
  state.is_failing = true;
  state.logged_at = now_;
  state.failures = 0;
}

void Admission::Thread::note_status(const CurlInquirer::Answered& answered, bool has_answer) {
  const std::lock_guard lock(owner_.status_mutex_);
  auto& sources = owner_.status_.sources;
  const auto found = std::ranges::find_if(sources, [&answered](const SourceStatus& source) {
    // The usual place of tailscaled is looked up anew for each question.
    return source.kind == answered.kind && (source.where == answered.where || source.where.empty());
  });
  if (found == sources.end()) return;
  found->was_asked = true;
  found->is_failing = !has_answer;
  found->last_error = has_answer ? std::string() : answered.reply.reason;
}

// --- Files that change

void Admission::Thread::check_files() {
  if (now_ - files_checked_at_ < kFileCheckPeriod) return;
  files_checked_at_ = now_;
  check_allow_file();
  check_authorization();
}

void Admission::Thread::check_allow_file() {
  const std::string& path = setup_.options.allow_file;
  if (path.empty()) return;
  const FileStamp stamp = FileStamp::of(path);
  if (stamp == setup_.list_stamp) return;
  setup_.list_stamp = stamp;
  auto list = read_allow_file(path);
  if (!list) {
    owner_.counters_.allow_list_stale.set(1);
    owner_.log_.error(list.error() + "; the list as it was before holds");
    return;
  }
  owner_.counters_.allow_list_stale.set(0);
  owner_.log_.info(fmt::format("allow file {}: read again, {} keys", path, list->size()));
  {
    const std::lock_guard lock(owner_.status_mutex_);
    owner_.status_.names = list->names();
  }
  judge_.set_allow_list(std::move(*list), now_);
}

void Admission::Thread::check_authorization() {
  const std::string& path = setup_.options.authorization_file;
  if (path.empty()) return;
  const FileStamp stamp = FileStamp::of(path);
  if (stamp == setup_.authorization_stamp) return;
  setup_.authorization_stamp = stamp;
  auto authorization = read_authorization(path);
  if (!authorization) {
    owner_.log_.error(authorization.error() + "; the header as it was before is sent");
    return;
  }
  setup_.authorization = std::move(*authorization);
  owner_.log_.info(fmt::format("--verify-client-url-auth-file {}: read again", path));
}

// --- The outside

std::expected<std::unique_ptr<Admission>, std::string> Admission::start(const Options& options,
                                                                        Listener& listener,
                                                                        Log& log) {
  auto setup = Thread::Setup::make(options);
  if (!setup) return std::unexpected(setup.error());
  std::unique_ptr<Admission> admission(new Admission(listener, log));
  admission->user_agent_ = options.user_agent;
  admission->set_app_names(options);
  admission->is_checking_.store(!setup->policy.lets_everybody_in());
  admission->thread_state_ = std::make_unique<Thread>(*admission);
  admission->thread_state_->set_up(std::move(*setup), Clock::now());
  admission->thread_ = std::thread([thread = admission->thread_state_.get()] { thread->run(); });
  return admission;
}

Admission::Admission(Listener& listener, Log& log) : listener_(listener), log_(log) {}

Admission::~Admission() {
  stop();
}

void Admission::stop() {
  if (!thread_.joinable()) return;
  thread_state_->request_stop();
  thread_state_->wake();
  thread_.join();
}

void Admission::post(Task task) {
  bool was_empty;
  {
    const std::lock_guard lock(posted_mutex_);
    was_empty = posted_.empty();
    posted_.push_back(std::move(task));
  }
  if (was_empty) thread_state_->wake();
}

void Admission::log_in(Login login) {
  post([login = std::move(login)](Thread& thread) mutable {
    thread.judge().log_in(std::move(login), thread.now());
  });
}

void Admission::take_over(Login login) {
  post([login = std::move(login)](Thread& thread) mutable {
    thread.judge().take_over(std::move(login), thread.now());
  });
}

void Admission::left(std::uint64_t id) {
  post([id](Thread& thread) { thread.judge().left(id, thread.now()); });
}

std::expected<void, std::string> Admission::reload(const Options& options) {
  auto setup = Thread::Setup::make(options);
  if (!setup) return std::unexpected(setup.error());
  set_app_names(options);
  is_checking_.store(!setup->policy.lets_everybody_in(), std::memory_order_release);
  post([setup = std::move(*setup)](Thread& thread) mutable {
    thread.set_up(std::move(setup), thread.now());
  });
  return {};
}

Status Admission::status() const {
  const std::lock_guard lock(status_mutex_);
  return status_;
}

void Admission::set_app_names(const Options& options) {
  const std::lock_guard lock(app_names_mutex_);
  disallowed_app_names_ = options.disallowed_app_names;
}

bool Admission::allows_app_name(std::string_view name) const {
  if (name.empty()) return true;
  const std::lock_guard lock(app_names_mutex_);
  return std::ranges::find(disallowed_app_names_, name) == disallowed_app_names_.end();
}

}  // namespace detour::admission
