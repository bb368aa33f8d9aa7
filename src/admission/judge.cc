#include "admission/judge.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <string_view>
#include <utility>

namespace detour::admission {

namespace {

using Result = Verdict::Result;

/// What a client does after a refusal depends on how soon it is closed: it comes back at once.
constexpr std::array<Duration, 5> kHolds = {std::chrono::milliseconds(200),
                                            std::chrono::milliseconds(500), std::chrono::seconds(1),
                                            std::chrono::seconds(2), std::chrono::seconds(5)};
/// A client that was not refused for this long begins anew.
constexpr Duration kRefusalsForgotten = std::chrono::seconds(60);

constexpr std::string_view kNotOnList =
    "its key is not in the allow file; add it there to let it in";

bool is_allowed(Result result) {
  return result == Result::kAllowed || result == Result::kFailedOpen;
}

std::string join(const std::vector<Reply>& replies) {
  std::string text;
  for (const Reply& reply : replies) {
    if (reply.reason.empty()) continue;
    if (!text.empty()) text += "; ";
    text += reply.reason;
  }
  return text;
}

}  // namespace

// --- Settings

void Judge::set_policy(const Policy& policy, AllowList list, TimePoint now) {
  policy_ = policy;
  allow_list_ = std::move(list);
  counters_.allow_list_keys.set(allow_list_.size());
  queries_.clear();
  inquiries_ = recheck_inquiries_ = 0;
  // The key of a case depends on the policy, so cases are built anew from who is there.
  std::vector<Login> waiting;
  std::vector<Login> admitted;
  for (auto& [key, c] : cases_) {
    std::ranges::move(c->waiting, std::back_inserter(waiting));
    std::ranges::move(c->admitted, std::back_inserter(admitted));
  }
  by_login_.clear();
  queue_.clear();
  rechecks_.clear();
  idle_.clear();
  cases_.clear();
  waiting_ = 0;
  counters_.waiting.set(0);
  counters_.in_flight.set(0);
  for (Login& login : admitted) take_over(std::move(login), now);
  for (Login& login : waiting) log_in(std::move(login), now);
  tick(now);
}

void Judge::set_allow_list(AllowList list, TimePoint now) {
  allow_list_ = std::move(list);
  counters_.allow_list_keys.set(allow_list_.size());
  std::vector<Case*> gone;
  for (auto& [key, c] : cases_) {
    if (c->admitted.empty()) continue;
    const bool is_listed = allow_list_.contains(c->subject.key);
    if (is_listed) {
      c->by_list = true;
      cancel_recheck(*c);
    } else if (std::exchange(c->by_list, false)) {
      gone.push_back(c.get());
    }
  }
  for (Case* const c : gone) {
    if (policy_.sockets + policy_.controllers != 0) {
      c->last.reset();
      schedule_recheck(*c, now);
    } else {
      cut_off_all(*c, std::string(kNotOnList));
      settle(*c, now);
    }
  }
  tick(now);
}

// --- Logins

std::string Judge::map_key_of(const Subject& subject) const {
  const auto bytes = subject.key.bytes();
  std::string key(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  // Controllers are told the address and may decide by it.
  if (policy_.controllers != 0) key += subject.source;
  return key;
}

Judge::Case& Judge::case_of(const Subject& subject) {
  std::string key = map_key_of(subject);
  std::unique_ptr<Case>& slot = cases_[key];
  if (!slot) {
    slot = std::make_unique<Case>();
    slot->subject = subject;
    slot->map_key = std::move(key);
  }
  if (slot->idle) {
    idle_.erase(*slot->idle);
    slot->idle.reset();
  }
  return *slot;
}

void Judge::log_in(Login login, TimePoint now) {
  Case& c = case_of(login.subject);
  if (policy_.lets_everybody_in() || allow_list_.contains(login.subject.key)) {
    c.by_list = !policy_.lets_everybody_in();
    cancel_recheck(c);
    conclude(c, login, {.result = Result::kAllowed, .at = now}, now);
  } else if (policy_.sockets + policy_.controllers == 0) {
    refuse(c, login, Result::kDenied, std::string(kNotOnList), now);
  } else if (c.last && now - c.last->at <
                           (is_allowed(c.last->result) ? kAllowedLifetime : kRefusedLifetime)) {
    counters_.cache_hits.add();
    conclude(c, login, *c.last, now);
  } else {
    wait_or_refuse(c, std::move(login), now);
  }
  settle(c, now);
}

void Judge::wait_or_refuse(Case& c, Login login, TimePoint now) {
  if (waiting_ >= kLoginsWaitingMax) {
    refuse(c, login, Result::kBusy, "too many logins wait for an answer; the sources answer slowly",
           now);
    return;
  }
  by_login_[login.id] = &c;
  c.waiting.push_back(std::move(login));
  counters_.waiting.set(++waiting_);
  if (c.inquiry || std::exchange(c.is_queued, true)) return;
  queue_.push_back(&c);
  start_queued(now);
}

void Judge::take_over(Login login, TimePoint now) {
  Case& c = case_of(login.subject);
  c.by_list = allow_list_.contains(login.subject.key);
  admit(c, std::move(login));
  if (!policy_.lets_everybody_in() && !c.by_list) schedule_recheck(c, now);
}

void Judge::admit(Case& c, Login login) {
  by_login_[login.id] = &c;
  c.admitted.push_back(std::move(login));
}

void Judge::conclude(Case& c, const Login& login, const Decision& decision, TimePoint now) {
  if (!is_allowed(decision.result)) {
    refuse(c, login, decision.result, decision.reason, now);
    return;
  }
  counters_.logins[static_cast<std::size_t>(decision.result)].add();
  c.refusals = 0;
  admit(c, login);
  if (!c.by_list && !policy_.lets_everybody_in() && !c.recheck_at && !c.inquiry) {
    const Duration jitter = kRecheckJitter * c.subject.key.bytes()[0] / 256;
    schedule_recheck(c, decision.at + kRecheckPeriod - jitter);
  }
  actions_.decided(login, {.result = decision.result});
}

void Judge::refuse(Case& c, const Login& login, Result result, const std::string& reason,
                   TimePoint now) {
  counters_.logins[static_cast<std::size_t>(result)].add();
  if (now - c.refused_at > kRefusalsForgotten) c.refusals = 0;
  Verdict verdict{.result = result, .hold = kHolds[std::min(c.refusals, kHolds.size() - 1)]};
  ++c.refusals;
  c.refused_at = now;
  if (!c.logged_at || now - *c.logged_at >= kLogAgainAfter) {
    c.logged_at = now;
    verdict.log_reason = reason;
  }
  actions_.decided(login, verdict);
}

void Judge::left(std::uint64_t id, TimePoint now) {
  const auto found = by_login_.find(id);
  if (found == by_login_.end()) return;
  Case& c = *found->second;
  by_login_.erase(found);
  const auto is_it = [id](const Login& login) { return login.id == id; };
  if (std::erase_if(c.waiting, is_it) != 0) counters_.waiting.set(--waiting_);
  std::erase_if(c.admitted, is_it);
  settle(c, now);
}

// --- Asking

/// Whether one more inquiry may begin. Each counts with its larger stage from the start, because
/// the second one does not wait for room.
bool Judge::has_room(std::size_t inquiries, std::size_t queries_max) const {
  return (inquiries + 1) * std::max(policy_.sockets, policy_.controllers) <= queries_max;
}

std::size_t Judge::first_stage_size() const {
  return policy_.sockets != 0 ? policy_.sockets : policy_.controllers;
}

void Judge::start_queued(TimePoint now) {
  while (!queue_.empty() && has_room(inquiries_, kQueriesMax)) {
    Case& c = *queue_.front();
    queue_.pop_front();
    c.is_queued = false;
    if (!c.waiting.empty() && !c.inquiry) start_inquiry(c, /*is_recheck=*/false, now);
    settle(c, now);
  }
}

void Judge::tick(TimePoint now) {
  start_queued(now);
  while (!rechecks_.empty() && rechecks_.begin()->first <= now &&
         has_room(recheck_inquiries_, kRecheckQueriesMax) && has_room(inquiries_, kQueriesMax)) {
    Case& c = *rechecks_.begin()->second;
    cancel_recheck(c);
    if (c.inquiry) continue;  // Its answer is as good, and schedules the next one.
    if (policy_.sockets == 0 && policy_.controllers == 0) {
      cut_off_all(c, std::string(kNotOnList));
      settle(c, now);
    } else {
      start_inquiry(c, /*is_recheck=*/true, now);
    }
  }
  forget_old(now);
}

std::optional<TimePoint> Judge::next_due() const {
  if (rechecks_.empty()) return std::nullopt;
  return rechecks_.begin()->first;
}

void Judge::start_inquiry(Case& c, bool is_recheck, TimePoint /*now*/) {
  ++inquiries_;
  if (is_recheck) ++recheck_inquiries_;
  c.inquiry = Inquiry{.is_recheck = is_recheck, .asks_controllers = policy_.sockets == 0};
  ask_stage(c);
}

void Judge::ask_stage(Case& c) {
  Inquiry& inquiry = *c.inquiry;
  const std::size_t first = inquiry.asks_controllers ? policy_.sockets : 0;
  const std::size_t count = inquiry.asks_controllers ? policy_.controllers : policy_.sockets;
  inquiry.replies.clear();
  inquiry.unanswered = count;
  for (std::size_t source = first; source < first + count; ++source) {
    const QueryId id = next_query_++;
    queries_.emplace(id, std::pair(&c, source));
    counters_.in_flight.set(queries_.size());
    actions_.ask(id, source, c.subject);
  }
}

void Judge::answered(QueryId id, Reply reply, TimePoint now) {
  const auto found = queries_.find(id);
  if (found == queries_.end()) return;
  Case& c = *found->second.first;
  Inquiry& inquiry = *c.inquiry;
  queries_.erase(found);
  --inquiry.unanswered;
  inquiry.replies.push_back(std::move(reply));

  auto decision = stage_decision(inquiry, now);
  if (decision && !inquiry.asks_controllers && policy_.controllers != 0) {
    // Whether the second stage can change anything.
    const bool goes_on =
        policy_.needs_both ? is_allowed(decision->result) : !is_allowed(decision->result);
    if (goes_on) {
      drop_questions_of(c);
      inquiry.sockets_said = std::exchange(decision, std::nullopt);
      inquiry.asks_controllers = true;
      ask_stage(c);
    }
  } else if (decision && inquiry.sockets_said && !policy_.needs_both &&
             !is_allowed(decision->result)) {
    // Nobody let it in: it is denied when both said so, otherwise it is not known.
    if (inquiry.sockets_said->result == Result::kUndecided) decision->result = Result::kUndecided;
    decision->reason = inquiry.sockets_said->reason + "; " + decision->reason;
  }
  if (decision) finish(c, *decision, now);
  counters_.in_flight.set(queries_.size());
  tick(now);
}

std::optional<Judge::Decision> Judge::stage_decision(const Inquiry& inquiry, TimePoint now) const {
  const auto all_are = [&](Answer answer) {
    return std::ranges::all_of(inquiry.replies,
                               [answer](const Reply& reply) { return reply.answer == answer; });
  };
  const bool one_allows = std::ranges::any_of(
      inquiry.replies, [](const Reply& reply) { return reply.answer == Answer::kAllowed; });
  if (one_allows) return Decision{.result = Result::kAllowed, .at = now};
  if (inquiry.unanswered != 0) return std::nullopt;
  Decision decision{.result = Result::kUndecided, .reason = join(inquiry.replies), .at = now};
  if (all_are(Answer::kDenied)) decision.result = Result::kDenied;
  if (inquiry.asks_controllers && policy_.fail_open && all_are(Answer::kUnreachable))
    decision.result = Result::kFailedOpen;
  return decision;
}

void Judge::finish(Case& c, const Decision& decision, TimePoint now) {
  drop_questions_of(c);
  --inquiries_;
  if (c.inquiry->is_recheck) --recheck_inquiries_;
  c.inquiry.reset();
  c.last = decision;

  if (decision.result == Result::kDenied && !c.by_list) cut_off_all(c, decision.reason);
  std::vector<Login> waiting = std::move(c.waiting);
  c.waiting.clear();
  waiting_ -= waiting.size();
  counters_.waiting.set(waiting_);
  for (const Login& login : waiting) {
    by_login_.erase(login.id);
    conclude(c, login, decision, now);
  }
  if (!c.admitted.empty() && !c.by_list && !c.recheck_at) {
    const Duration jitter = kRecheckJitter * c.subject.key.bytes()[0] / 256;
    schedule_recheck(c, decision.result == Result::kUndecided ? now + kRecheckRetry
                                                              : now + kRecheckPeriod - jitter);
  }
  settle(c, now);
}

void Judge::drop_questions_of(const Case& c) {
  if (!c.inquiry || c.inquiry->unanswered == 0) return;
  std::erase_if(queries_, [&c](const auto& query) { return query.second.first == &c; });
}

// --- Staying

void Judge::schedule_recheck(Case& c, TimePoint at) {
  cancel_recheck(c);
  c.recheck_at = at;
  rechecks_.emplace(at, &c);
}

void Judge::cancel_recheck(Case& c) {
  if (!c.recheck_at) return;
  rechecks_.erase({*c.recheck_at, &c});
  c.recheck_at.reset();
}

void Judge::cut_off_all(Case& c, const std::string& reason) {
  cancel_recheck(c);
  const std::vector<Login> admitted = std::move(c.admitted);
  c.admitted.clear();
  for (const Login& login : admitted) {
    by_login_.erase(login.id);
    counters_.cut_offs.add();
    actions_.cut_off(login, reason);
  }
}

// --- Remembering

void Judge::settle(Case& c, TimePoint now) {
  if (c.idle || !c.waiting.empty() || !c.admitted.empty() || c.inquiry || c.is_queued) return;
  cancel_recheck(c);
  c.by_list = false;
  c.idle_since = now;
  c.idle = idle_.insert(idle_.end(), &c);
  if (idle_.size() > kRememberedMax) {
    Case* const oldest = idle_.front();
    idle_.pop_front();
    cases_.erase(std::string(oldest->map_key));
  }
}

void Judge::forget_old(TimePoint now) {
  while (!idle_.empty() && now - idle_.front()->idle_since >= kForgetAfter) {
    Case* const oldest = idle_.front();
    idle_.pop_front();
    cases_.erase(std::string(oldest->map_key));
  }
}

}  // namespace detour::admission
