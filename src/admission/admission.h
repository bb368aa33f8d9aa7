#pragma once

#include <atomic>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "admission/allow_list.h"
#include "admission/judge.h"
#include "admission/reply.h"
#include "base/log.h"
#include "metrics/counters.h"

namespace detour::admission {

/// How often files are looked at for changes.
inline constexpr Duration kFileCheckPeriod = std::chrono::seconds(2);

/// What the operator set.
struct Options {
  bool verify_clients = false;
  std::vector<std::string> sockets{};  ///< Of tailscaled; empty = the usual place.
  std::vector<std::string> urls{};
  std::string authorization_file{};  ///< Its content becomes the Authorization header for `urls`.
  bool fail_open = false;
  bool needs_both = false;  ///< tailscaled and URL have to agree, as in derper.
  std::string allow_file{};
  std::vector<std::string> disallowed_app_names{};
  std::string user_agent{};

  friend bool operator==(const Options&, const Options&) = default;
};

/// How one source of answers is doing.
struct SourceStatus {
  SourceKind kind = SourceKind::kTailscaled;
  std::string where;  ///< Path of the socket, empty = the usual place; or URL.
  bool was_asked = false;
  bool is_failing = false;  ///< The last question got no answer.
  std::string last_error{};
};

/// What admission works with at the moment.
struct Status {
  bool is_checking = false;
  std::vector<SourceStatus> sources{};
  std::string allow_file{};
  /// What the allow file calls its nodes. Never null.
  std::shared_ptr<const NodeNames> names = std::make_shared<NodeNames>();
};

/// Asked by all workers, answers on a thread of its own: nothing here ever blocks a worker.
class Admission {
 public:
  /// Called on the thread of admission; has to hand the news to the worker and return.
  class Listener {
   public:
    virtual void decided(const Login& login, const Verdict& verdict) = 0;
    virtual void cut_off(const Login& login) = 0;

   protected:
    ~Listener() = default;
  };

  /// Reads the files and starts the thread. Fails with a text for the operator when a file cannot
  /// be used or a setting is wrong. `listener` and `log` must outlive the object.
  [[nodiscard]] static std::expected<std::unique_ptr<Admission>, std::string> start(
      const Options& options, Listener& listener, Log& log);
  /// Stops as stop() does.
  ~Admission();
  Admission(const Admission&) = delete;
  Admission& operator=(const Admission&) = delete;

  /// Whether anybody is asked about. Any thread.
  [[nodiscard]] bool is_checking() const { return is_checking_.load(std::memory_order_acquire); }
  /// Whether clients that call themselves so are let in. Any thread.
  [[nodiscard]] bool allows_app_name(std::string_view name) const;

  /// A client wants in: ends in Listener::decided(). Any thread.
  void log_in(Login login);
  /// A client that came while nobody was asked about; it is checked now. Any thread.
  void take_over(Login login);
  /// The connection has closed, logged in or not. Any thread.
  void left(std::uint64_t id);

  /// Takes changed settings and reads the files again. What cannot be used is said in the text, and
  /// everything stays as it was. Any thread, one at a time.
  [[nodiscard]] std::expected<void, std::string> reload(const Options& options);

  /// Ends the thread; questions stay unanswered. Not to be called from the listener.
  void stop();

  [[nodiscard]] const metrics::AdmissionCounters& counters() const { return counters_; }
  /// Not for workers, which it might hold up.
  [[nodiscard]] Status status() const;

 private:
  class Thread;
  using Task = std::move_only_function<void(Thread&)>;

  Admission(Listener& listener, Log& log);
  void post(Task task);
  void set_app_names(const Options& options);

  Listener& listener_;
  Log& log_;
  std::string user_agent_;
  metrics::AdmissionCounters counters_;
  std::atomic<bool> is_checking_{false};

  mutable std::mutex status_mutex_;
  Status status_;

  mutable std::mutex app_names_mutex_;
  std::vector<std::string> disallowed_app_names_;

  std::mutex posted_mutex_;
  std::vector<Task> posted_;
  std::unique_ptr<Thread> thread_state_;
  std::thread thread_;
};

}  // namespace detour::admission
