#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "admission/allow_list.h"
#include "admission/reply.h"
#include "base/clock.h"
#include "crypto/keys.h"
#include "metrics/counters.h"

namespace detour::admission {

/// An answer lets others with the same key in for this long without asking again.
inline constexpr Duration kAllowedLifetime = std::chrono::seconds(30);
/// A refusal holds for this long: a client that may not come in tries many times a second, and one
/// that was just added should not wait.
inline constexpr Duration kRefusedLifetime = std::chrono::seconds(2);
/// Nobody stays connected on an answer older than this and the time of one query. Spread over the
/// last quarter, so that clients that came together are not asked for together.
inline constexpr Duration kRecheckPeriod = std::chrono::seconds(45);
inline constexpr Duration kRecheckJitter = std::chrono::seconds(10);
/// The same after a re-check that got no answer.
inline constexpr Duration kRecheckRetry = std::chrono::seconds(15);
/// What is known of a client that is gone is forgotten after this long.
inline constexpr Duration kForgetAfter = std::chrono::minutes(5);
/// Refusals of one client are logged again after this long.
inline constexpr Duration kLogAgainAfter = std::chrono::minutes(5);

/// Queries under way at one time; a client is only asked for when all queries of its stage fit.
inline constexpr std::size_t kQueriesMax = 64;
/// How many of those re-checks may take.
inline constexpr std::size_t kRecheckQueriesMax = 32;
/// Logins that wait for an answer; further ones are refused at once.
inline constexpr std::size_t kLoginsWaitingMax = 4096;
/// Clients that are remembered although they are not connected.
inline constexpr std::size_t kRememberedMax = 16384;
/// Sources of either kind.
inline constexpr std::size_t kSourcesMax = 16;

/// Which sources there are, and how their answers make a decision.
struct Policy {
  std::size_t sockets = 0;      ///< Local tailscaleds: one of them has to know the client.
  std::size_t controllers = 0;  ///< Admission URLs: one of them has to allow it.
  bool has_allow_list = false;  ///< Who is on it comes in, whatever the sources say.
  /// With sockets and controllers both have to agree, as in derper. Otherwise one is enough.
  bool needs_both = false;
  /// Controllers count as having allowed a login when none of them can be reached.
  bool fail_open = false;

  [[nodiscard]] bool lets_everybody_in() const {
    return sockets == 0 && controllers == 0 && !has_allow_list;
  }
};

/// Who wants to come in.
struct Subject {
  crypto::NodePublic key;
  std::string source;  ///< The client's address, as text.
};

/// A connection that wants to log in, or has.
struct Login {
  std::uint64_t id = 0;    ///< Of the connection; never used again.
  std::size_t worker = 0;  ///< Whom to tell.
  Subject subject{};
};

struct Verdict {
  enum class Result : std::uint8_t {
    kAllowed,
    kFailedOpen,  ///< Let in because no controller could be reached.
    kDenied,
    kUndecided,  ///< Refused because a source failed.
    kBusy,       ///< Refused because too many wait.
  };
  static constexpr std::size_t kResultCount = 5;

  Result result = Result::kUndecided;
  /// How long a refused connection is to be kept before it is closed: longer each time, so that
  /// clients that cannot come in cost little.
  Duration hold{};
  /// Why it was refused, for the log; empty when a line for this client was written lately.
  std::string log_reason{};

  [[nodiscard]] bool allowed() const {
    return result == Result::kAllowed || result == Result::kFailedOpen;
  }
};

using QueryId = std::uint64_t;

/// What the judge wants done.
class JudgeActions {
 public:
  /// Asks a source: sockets are numbered from 0, controllers from Policy::sockets on. The answer
  /// comes back by Judge::answered(), later.
  virtual void ask(QueryId id, std::size_t source, const Subject& subject) = 0;
  /// The answer to a log_in().
  virtual void decided(const Login& login, const Verdict& verdict) = 0;
  /// A connected client may not stay.
  virtual void cut_off(const Login& login, const std::string& reason) = 0;

 protected:
  ~JudgeActions() = default;
};

/// Decides who may log in and stay: remembers answers, joins questions about the same client, asks
/// again about those who are connected, and bounds all of that.
///
/// No I/O and no clock. One thread.
class Judge {
 public:
  Judge(JudgeActions& actions, metrics::AdmissionCounters& counters)
      : actions_(actions), counters_(counters) {}

  /// Takes other sources and the list that goes with them. All that was answered is forgotten,
  /// questions are asked anew, and those who are connected are checked now.
  void set_policy(const Policy& policy, AllowList list, TimePoint now);
  /// Who was let in by the list and is no longer on it has to be let in by a source, or leaves.
  void set_allow_list(AllowList list, TimePoint now);

  /// A client wants in. Ends in decided() for it, now or later, unless it leaves before.
  void log_in(Login login, TimePoint now);
  /// A client was connected before there was anything to check: checks it now.
  void take_over(Login login, TimePoint now);
  /// A connection has closed, logged in or not.
  void left(std::uint64_t id, TimePoint now);
  /// What a source said. Answers to questions that no longer matter are ignored.
  void answered(QueryId id, Reply reply, TimePoint now);
  /// Does what is due.
  void tick(TimePoint now);
  /// When tick() has something to do.
  [[nodiscard]] std::optional<TimePoint> next_due() const;

 private:
  struct Decision {
    Verdict::Result result = Verdict::Result::kUndecided;
    std::string reason{};
    TimePoint at{};
  };
  struct Inquiry {
    bool is_recheck = false;
    bool asks_controllers = false;  ///< The second stage.
    std::size_t unanswered = 0;
    std::vector<Reply> replies{};
    std::optional<Decision> sockets_said{};
  };
  /// All that is known of one client.
  struct Case {
    Subject subject{};
    std::string map_key{};
    std::optional<Decision> last{};
    std::vector<Login> waiting{};
    std::vector<Login> admitted{};
    bool by_list = false;  ///< The admitted are on the allow list.
    std::optional<Inquiry> inquiry{};
    bool is_queued = false;
    std::optional<TimePoint> recheck_at{};
    std::size_t refusals = 0;  ///< In a row.
    TimePoint refused_at{};
    std::optional<TimePoint> logged_at{};
    std::optional<std::list<Case*>::iterator> idle{};
    TimePoint idle_since{};
  };

  [[nodiscard]] Case& case_of(const Subject& subject);
  [[nodiscard]] std::string map_key_of(const Subject& subject) const;
  void wait_or_refuse(Case& c, Login login, TimePoint now);
  void conclude(Case& c, const Login& login, const Decision& decision, TimePoint now);
  void refuse(Case& c, const Login& login, Verdict::Result result, const std::string& reason,
              TimePoint now);
  void admit(Case& c, Login login);
  void schedule_recheck(Case& c, TimePoint at);
  void cancel_recheck(Case& c);
  void cut_off_all(Case& c, const std::string& reason);

  void start_queued(TimePoint now);
  [[nodiscard]] bool has_room(std::size_t inquiries, std::size_t queries_max) const;
  [[nodiscard]] std::size_t first_stage_size() const;
  void start_inquiry(Case& c, bool is_recheck, TimePoint now);
  void ask_stage(Case& c);
  [[nodiscard]] std::optional<Decision> stage_decision(const Inquiry& inquiry, TimePoint now) const;
  void finish(Case& c, const Decision& decision, TimePoint now);
  void drop_questions_of(const Case& c);

  /// A case that nobody waits for or is connected by is only remembered, and sooner or later
  /// forgotten.
  void settle(Case& c, TimePoint now);
  void forget_old(TimePoint now);

  JudgeActions& actions_;
  metrics::AdmissionCounters& counters_;
  Policy policy_;
  AllowList allow_list_;

  std::unordered_map<std::string, std::unique_ptr<Case>> cases_;
  std::unordered_map<std::uint64_t, Case*> by_login_;
  std::deque<Case*> queue_;
  std::size_t waiting_ = 0;
  std::set<std::pair<TimePoint, Case*>> rechecks_;
  std::list<Case*> idle_;  ///< The longest idle first.
  std::map<QueryId, std::pair<Case*, std::size_t>> queries_;
  std::size_t inquiries_ = 0;          ///< Under way.
  std::size_t recheck_inquiries_ = 0;  ///< Those of them that are re-checks.
  QueryId next_query_ = 1;
};

}  // namespace detour::admission
