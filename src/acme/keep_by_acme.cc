#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <list>
#include <mutex>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "acme/control_thread.h"
#include "acme/keeper.h"
#include "acme/openssl.h"
#include "acme/store.h"
#include "base/check.h"

namespace detour::acme {
namespace {

using std::chrono::seconds;
using std::chrono::system_clock;

constexpr auto kRenewalLead = std::chrono::days(30);
constexpr seconds kRetryFirst = std::chrono::minutes(2);
constexpr seconds kRetryMax = std::chrono::hours(1);
/// Renewals are spread over this much, or a tenth of the lead where that is less.
constexpr seconds kRenewalJitter = std::chrono::hours(1);
/// Whatever the dates say, an authority is not asked again sooner after it gave a certificate.
constexpr seconds kRenewalPause{5};
/// The longest sleep: the machine's clock may be set meanwhile.
constexpr Duration kNapMax = std::chrono::minutes(30);

std::string day_and_time(WallTime time) {
  return to_text(std::chrono::floor<seconds>(time));
}

class AcmeKeeper final : public CertificateKeeper {
 public:
  AcmeKeeper(AcmeOptions options, ChallengeServer& server, CertificateSink sink, Log& log)
      : options_(std::move(options)),
        server_(server),
        sink_(std::move(sink)),
        log_(log),
        store_(options_.folder, options_.directory_url) {
    DETOUR_CHECK(!options_.identifiers.empty() && options_.identifiers.size() <= kIdentifiersMax);
    for (const auto& identifier : options_.identifiers) {
      Entry& entry = entries_.emplace_back();
      entry.identifier = identifier;
      entry.status.name = identifier.value;
    }
    load_stored();
    thread_.emplace([this](const std::stop_token& stop, bool /*was_woken*/) { return step(stop); });
  }

  void check_now() override {
    retry_.store(true);
    thread_->wake();
  }
  void check_now(CertificateRequest /*request*/) override { check_now(); }

  void want_address(std::string_view ip) override {
    {
      const std::lock_guard lock(mutex_);
      const bool is_known = std::ranges::any_of(
          entries_, [&](const Entry& entry) { return entry.identifier.value == ip; });
      if (is_known || std::ranges::find(wanted_, ip) != wanted_.end()) return;
      if (entries_.size() + wanted_.size() >= options_.identifiers.size() + kWantedAddressesMax) {
        if (!std::exchange(said_too_many_, true))
          log_.warn(
              fmt::format("certificate: clients asked for more addresses than {}: none is "
                          "ordered for {} and those that follow",
                          kWantedAddressesMax, ip));
        return;
      }
      wanted_.emplace_back(ip);
    }
    thread_->wake();
  }

  void request_stop() override { thread_->request_stop(); }

  [[nodiscard]] std::vector<CertificateStatus> status() const override {
    const std::lock_guard lock(mutex_);
    std::vector<CertificateStatus> all;
    for (const Entry& entry : entries_) all.push_back(entry.status);
    return all;
  }

 private:
  struct Entry {
    Identifier identifier;
    std::optional<ServerCertificate> certificate;
    bool was_wanted = false;  ///< By a client, later.
    WallTime due = WallTime::min();
    std::uint64_t failures_in_a_row = 0;
    CertificateStatus status;  ///< Guarded by the mutex.
  };

  // --- What is there already

  void load_stored() {
    for (Entry& entry : entries_) load_stored(entry);
    publish();
    for (const Entry& entry : entries_) say_if_missing(entry);
    if (std::ranges::none_of(entries_, [](const Entry& e) { return e.certificate.has_value(); }))
      sink_.waiting_for(fmt::format("no certificate yet: one for {} is being ordered from {}",
                                    entries_.front().identifier.value, options_.directory_url));
  }

  void load_stored(Entry& entry) {
    auto stored = store_.load(entry.identifier, system_clock::now());
    if (!stored) {
      log_.warn(stored.error());
      log_.warn(fmt::format("certificate: the one kept for {} is not used, a new one is ordered",
                            entry.identifier.value));
      return;
    }
    if (!*stored) return;
    take(entry, std::move((*stored)->certificate));
    log_.info(fmt::format("certificate: the one kept in {} is served, valid until {}",
                          entry.certificate->cert_file, to_text(entry.certificate->not_after)));
    if (!(*stored)->from_elsewhere) return;
    log_.info(
        fmt::format("certificate: it came from another ACME server than {}, so a new one is "
                    "ordered now",
                    options_.directory_url));
    set_due(entry, WallTime::min());
  }

  void say_if_missing(const Entry& entry) {
    if (!entry.certificate)
      log_.info(fmt::format("certificate: there is none for {} yet, one is ordered from {}",
                            entry.identifier.value, options_.directory_url));
  }

  /// What clients asked for since the last step.
  void take_wanted() {
    std::vector<Entry*> added;
    {
      const std::lock_guard lock(mutex_);
      for (const std::string& ip : wanted_) {
        Entry& entry = entries_.emplace_back();
        entry.identifier = {.value = ip, .is_ip = true};
        entry.was_wanted = true;
        entry.status.name = ip;
        added.push_back(&entry);
      }
      wanted_.clear();
    }
    for (Entry* const entry : added) {
      load_stored(*entry);
      say_if_missing(*entry);
    }
    if (std::ranges::any_of(added, [](const Entry* e) { return e->certificate.has_value(); }))
      publish();
  }

  /// Before an address is ordered for again: whether it is not worth it.
  [[nodiscard]] bool is_gone(const Entry& entry) const {
    return entry.was_wanted && options_.is_local_ip &&
           !options_.is_local_ip(entry.identifier.value);
  }

  void forget(std::list<Entry>::iterator entry) {
    log_.info(
        fmt::format("certificate: {} is no address of this machine any more, so none is kept "
                    "for it",
                    entry->identifier.value));
    const bool was_served = entry->certificate.has_value();
    {
      const std::lock_guard lock(mutex_);
      entries_.erase(entry);
      said_too_many_ = false;
    }
    if (was_served) publish();
  }

  void take(Entry& entry, ServerCertificate certificate) {
    entry.certificate = std::move(certificate);
    const auto& taken = *entry.certificate;
    const WallTime due = renewal_time(taken.not_before, taken.not_after);
    const auto lead = std::chrono::duration_cast<seconds>(taken.not_after - due);
    const auto spread = std::min(kRenewalJitter, lead / 10);
    set_due(entry, due - std::chrono::duration_cast<seconds>(spread * random()));
    const std::lock_guard lock(mutex_);
    entry.status.serving = true;
    entry.status.not_before = taken.not_before;
    entry.status.not_after = taken.not_after;
  }

  void set_due(Entry& entry, WallTime due) {
    entry.due = due;
    const std::lock_guard lock(mutex_);
    entry.status.next_attempt = due;
  }

  /// Serves all that there is.
  void publish() {
    std::vector<KeptCertificate> kept;
    for (const Entry& entry : entries_)
      if (entry.certificate)
        kept.push_back({.identifier = entry.identifier, .certificate = *entry.certificate});
    if (kept.empty()) return;
    if (auto served = sink_.serve(kept); !served)
      log_.error("certificate: cannot be served: " + served.error());
  }

  // --- Ordering

  Duration step(const std::stop_token& stop) {
    take_wanted();
    const bool retries = retry_.exchange(false);
    WallTime next = WallTime::max();
    for (auto entry = entries_.begin(); entry != entries_.end() && !stop.stop_requested();) {
      const auto current = entry++;
      const bool is_retry = retries && current->failures_in_a_row != 0;
      if (is_retry || system_clock::now() >= current->due) {
        if (is_gone(*current)) {
          forget(current);
          continue;
        }
        attempt(*current, stop);
      }
      next = std::min(next, current->due);
    }
    const WallTime now = system_clock::now();
    return next <= now ? Duration::zero() : std::min<Duration>(next - now, kNapMax);
  }

  void attempt(Entry& entry, const std::stop_token& stop) {
    auto got = order(entry, stop);
    if (stop.stop_requested()) return;
    if (!got) return put_off(entry, got.error());

    take(entry, std::move(*got));
    entry.failures_in_a_row = 0;
    set_due(entry, std::max(entry.due, system_clock::now() + kRenewalPause));
    {
      const std::lock_guard lock(mutex_);
      ++entry.status.attempts;
      entry.status.last_error.clear();
    }
    publish();
    log_.info(
        fmt::format("certificate: got one for {}, valid until {}, kept in {}; it is renewed "
                    "at {}",
                    entry.identifier.value, to_text(entry.certificate->not_after),
                    entry.certificate->cert_file, day_and_time(entry.due)));
  }

  void put_off(Entry& entry, const Problem& problem) {
    const auto delay = retry_delay(++entry.failures_in_a_row, random(), problem.retry_after);
    const WallTime now = system_clock::now();
    set_due(entry, now + delay);
    const std::string name = entry.identifier.value;
    const std::string again = fmt::format(
        "the next attempt is at {}, or when the relay gets SIGHUP", day_and_time(entry.due));
    const std::string meanwhile = !entry.certificate ? "until then there is none for it"
                                  : now > entry.certificate->not_after
                                      ? fmt::format("the one that is served expired at {}",
                                                    to_text(entry.certificate->not_after))
                                      : fmt::format("the one that is served is valid until {}",
                                                    to_text(entry.certificate->not_after));
    log_.error(fmt::format("certificate: none could be got for {}: {}", name, problem.text));
    log_.warn(fmt::format("certificate: {}; {}", meanwhile, again));
    if (!entry.certificate)
      sink_.waiting_for(
          fmt::format("no certificate yet for {}: ordering it failed, see the lines above that "
                      "begin with \"certificate:\"; {}",
                      name, again));
    const std::lock_guard lock(mutex_);
    ++entry.status.attempts;
    ++entry.status.failures;
    entry.status.last_error = problem.text;
  }

  /// The ways to prove that `entry` is ours, the likeliest first.
  std::vector<std::unique_ptr<Challenge>> challenges(const Entry& entry,
                                                     const std::stop_token& stop) {
    std::vector<std::unique_ptr<Challenge>> ways;
    if (!options_.dns_hook.empty() && !entry.identifier.is_ip) {
      ways.push_back(make_dns_challenge(options_.dns_hook, log_, stop));
      return ways;
    }
    if (options_.by_http) ways.push_back(make_http_challenge(server_));
    ways.push_back(make_alpn_challenge(server_));
    if (options_.alpn_first && !entry.identifier.is_ip) std::ranges::reverse(ways);
    return ways;
  }

  Outcome<ServerCertificate> order(Entry& entry, const std::stop_token& stop) {
    auto https = make_https({.ca_file = options_.ca_file, .user_agent = options_.user_agent}, stop);
    auto key = store_.account_key();
    if (!key) return std::unexpected(Problem{.text = key.error()});
    Authority authority(*https, std::move(*key),
                        {.directory_url = options_.directory_url,
                         .email = options_.email,
                         .eab_id = options_.eab_id,
                         .eab_key = options_.eab_key,
                         .wait = [&stop](Duration pause) { return sleep_unless(stop, pause); }});
    const std::string_view profile = entry.identifier.is_ip ? kShortLivedProfile : "";
    const auto ways = challenges(entry, stop);
    // The first attempt goes through all ways; later ones take turns, since authorities count
    // failures.
    const std::size_t first = entry.failures_in_a_row % ways.size();
    const std::size_t count = entry.failures_in_a_row == 0 ? ways.size() : 1;
    for (std::size_t i = 0;; ++i) {
      Challenge& way = *ways[(first + i) % ways.size()];
      auto issued = authority.obtain(entry.identifier, profile, way);
      if (issued) {
        auto saved = store_.save(entry.identifier, *issued, system_clock::now());
        if (!saved) return std::unexpected(Problem{.text = saved.error()});
        return std::move(*saved);
      }
      const Problem& problem = issued.error();
      const bool try_next = problem.is_challenge && i + 1 < count && !stop.stop_requested();
      if (!try_next) return std::unexpected(problem);
      log_.warn(fmt::format("certificate: {}; another way is tried", problem.text));
    }
  }

  /// From 0 to 1.
  double random() { return std::uniform_real_distribution<double>(0, 1)(random_); }

  const AcmeOptions options_;
  ChallengeServer& server_;
  const CertificateSink sink_;
  Log& log_;
  const CertificateStore store_;
  std::minstd_rand random_{std::random_device{}()};
  /// Changed by the thread alone, under the mutex as far as others read it: which there are, their
  /// identifiers and their status.
  std::list<Entry> entries_;
  std::atomic<bool> retry_{false};

  mutable std::mutex mutex_;
  std::vector<std::string> wanted_;  ///< Not among `entries_` yet.
  bool said_too_many_ = false;
  std::optional<ControlThread> thread_;  ///< Last, so that it ends first.
};

}  // namespace

WallTime renewal_time(WallTime not_before, WallTime not_after) {
  return not_after - std::min<WallTime::duration>(kRenewalLead, (not_after - not_before) / 3);
}

seconds retry_delay(std::uint64_t failures, double jitter, std::optional<seconds> asked) {
  // Doubling ends long before the shift could overflow.
  const auto doublings = std::min<std::uint64_t>(failures - 1, 10);
  const seconds base = std::min(kRetryFirst * (1 << doublings), kRetryMax);
  const auto spread = std::chrono::duration_cast<seconds>(base * (0.2 * jitter));
  return std::max(base + spread, asked.value_or(seconds(0)));
}

std::unique_ptr<CertificateKeeper> keep_by_acme(AcmeOptions options, ChallengeServer& server,
                                                CertificateSink sink, Log& log) {
  return std::make_unique<AcmeKeeper>(std::move(options), server, std::move(sink), log);
}

}  // namespace detour::acme
