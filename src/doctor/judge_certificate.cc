#include "doctor/judge_certificate.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <openssl/evp.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <memory>
#include <string_view>
#include <utility>

#include "acme/openssl.h"
#include "config/address.h"

namespace detour::doctor {
namespace {

constexpr int kRsaBitsMin = 2048;

struct FreeStack {
  void operator()(STACK_OF(X509) * stack) const { sk_X509_free(stack); }
};

client::Sha256 sha256_of(X509* certificate) {
  client::Sha256 digest{};
  unsigned size = 0;
  X509_digest(certificate, EVP_sha256(), digest.data(), &size);
  return digest;
}

bool covers(X509* leaf, const std::string& name) {
  if (config::is_ip(name)) return X509_check_ip_asc(leaf, name.c_str(), 0) == 1;
  return X509_check_host(leaf, name.data(), name.size(), X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS,
                         nullptr) == 1;
}

/// By its names alone, as clients judge: the key usage of a self-signed leaf need not allow
/// signing.
bool is_self_signed(X509* certificate) {
  return X509_NAME_cmp(X509_get_subject_name(certificate), X509_get_issuer_name(certificate)) == 0;
}

std::string names_text(X509* leaf) {
  auto names = acme::alternative_names(leaf);
  names.dns.insert(names.dns.end(), names.ips.begin(), names.ips.end());
  if (names.dns.empty()) return "no name at all (its common name does not count)";
  return fmt::format("{}", fmt::join(names.dns, ", "));
}

/// Judges one case; its functions append to `findings_`.
class Judge {
 public:
  explicit Judge(const CertificateCase& served) : served_(served) {}

  std::vector<Finding> run() {
    if (served_.sent.empty()) {
      add(State::kFail, "D15", "handshake", "the server ended TLS without a certificate",
          "Look at what listens on that port: it is no DERP relay.");
      return std::move(findings_);
    }
    if (!served_.insecure) {
      if (served_.pin)
        judge_pin();
      else
        judge_trust();
    }
    // What is served in the relay's place makes everything else about it pointless.
    if (is_foreign_) return std::move(findings_);
    judge_dates();
    judge_key();
    if (served_.insecure)
      add(State::kInfo, "D06", "insecure",
          "whom clients would trust was not checked, as --insecure or InsecureForTests asks for; "
          "the pin of this certificate is " +
              pin_of(leaf()));
    return std::move(findings_);
  }

 private:
  X509* leaf() const { return served_.sent.front().get(); }

  void add(State state, std::string_view code, std::string_view fault, std::string cause,
           std::string fix = {}) {
    findings_.push_back({.state = state,
                         .code = code,
                         .fault = fault,
                         .cause = std::move(cause),
                         .fix = std::move(fix)});
  }

  std::string foreign_fix() const {
    return "Somebody else ends TLS on the way to the relay: a CDN or reverse proxy (let it pass "
           "TCP "
           "through, with Cloudflare: \"DNS only\"), a virus scanner or a firewall that opens TLS, "
           "or another web server on that port (check the port).";
  }

  void judge_pin() {
    const auto served_pin = pin_of(leaf());
    const bool matches = sha256_of(leaf()) == *served_.pin;
    if (!matches && !served_.has_meta && !covers(leaf(), served_.name)) {
      foreign();
      return;
    }
    if (!matches) {
      add(State::kFail, "D10", "wrong-pin",
          fmt::format("the pinned certificate is {}, the one served is {}",
                      client::format_pin(*served_.pin), served_pin),
          fmt::format(
              "If you know that the relay has got a new certificate, put this into the map:\n"
              "  \"CertName\": \"{}\"\n"
              "Otherwise bring the old certificate and key files back: a container must keep "
              "them on a volume.",
              served_pin));
      return;
    }
    if (served_.sent.size() != 1) {
      add(State::kFail, "D10", "several-certificates",
          fmt::format("with a pin exactly one certificate may be served beside the meta "
                      "certificate, and {} came",
                      served_.sent.size()),
          "Serve the leaf alone, or leave the pin out of the map: a certificate from an authority, "
          "with its chain, needs no pin.");
      return;
    }
    if (served_.sends_sni && !covers(leaf(), served_.name)) {
      add(State::kFail, "D07", "wrong-name",
          fmt::format(
              "the certificate is for {}, and clients ask for {}; they check that even with "
              "a pin",
              names_text(leaf()), served_.name),
          "Put a name that the certificate covers into HostName, or the IP address.");
      return;
    }
    add(State::kPass, "D10", "", fmt::format("the certificate is the pinned one, {}", served_pin));
    add(State::kInfo, "D11", "pin",
        "clients older than 1.82 know no pins, and the first ones that do refuse some pinned "
        "relays: "
        "update the phones first");
  }

  void foreign() {
    add(State::kFail, "D15", "foreign-certificate",
        fmt::format(
            "the certificate that arrives is for {}, issued by \"{}\", and the relay's meta "
            "certificate is missing: this is not the relay",
            names_text(leaf()), acme::issuer_text(leaf())),
        foreign_fix());
    is_foreign_ = true;
  }

  void judge_trust() {
    const long verdict = verify();
    const bool covered = covers(leaf(), served_.name);
    if (!covered && !served_.has_meta) {
      foreign();
      return;
    }
    if (is_self_signed(leaf()) && verdict != X509_V_OK) {
      add(State::kFail, "D10", "unpinned",
          "the certificate vouches for itself, and the map has no pin: every client refuses it",
          fmt::format("If this is your relay's certificate, put its pin into the map, and give it "
                      "to this command with --pin:\n  \"CertName\": \"{}\"",
                      pin_of(leaf())));
      return;
    }
    if (!covered) {
      add(State::kFail, "D07", "wrong-name",
          fmt::format("the certificate is for {}, and clients ask for {}", names_text(leaf()),
                      served_.name),
          "Put a name that the certificate covers into HostName (or CertName), or get a "
          "certificate "
          "for this name. A wildcard covers exactly one label.");
      return;
    }
    if (verdict != X509_V_OK) {
      judge_chain(verdict);
      return;
    }
    judge_order();
  }

  void judge_chain(long verdict) {
    X509* last = served_.sent.back().get();
    const auto missing = acme::issuer_text(last);
    if (served_.sent.size() == 1 && !is_self_signed(leaf())) {
      const auto url = acme::issuer_url(leaf());
      add(State::kFail, "D06", "leaf-only",
          fmt::format("the server sends its certificate without the intermediate one (\"{}\"): "
                      "netcheck stays green and no client can relay",
                      missing),
          fmt::format(
              "Serve the full chain: fullchain.pem of certbot, --fullchain-file of acme.sh"
              "{}. If the issuer is your own authority, every client has to know it, or use "
              "a pin: {}\nInsecureForTests is not the mending.",
              url.empty() ? "" : fmt::format("; the missing one is at {}", url), pin_of(leaf())));
      return;
    }
    if (!served_.has_meta) {
      add(State::kFail, "D15", "substituted",
          fmt::format(
              "the certificate is issued by \"{}\", which nobody knows, and the relay's meta "
              "certificate is missing: TLS is opened on the way",
              acme::issuer_text(leaf())),
          foreign_fix());
      is_foreign_ = true;
      return;
    }
    const bool leads_to_root = is_self_signed(last);
    add(State::kFail, "D06", leads_to_root ? "unknown-authority" : "incomplete",
        leads_to_root
            ? fmt::format("the chain ends at \"{}\", which is no public authority ({})",
                          acme::subject_text(last), X509_verify_cert_error_string(verdict))
            : fmt::format("{} certificates are sent, and they lead to no public authority: the one "
                          "of \"{}\" is missing or of the wrong kind ({})",
                          served_.sent.size(), missing, X509_verify_cert_error_string(verdict)),
        "Serve the full chain of a public authority (fullchain.pem, --fullchain-file). A private "
        "authority must be installed on every client, which phones make hard: a self-signed "
        "certificate with a pin is easier.");
    if (leads_to_root)
      add(State::kInfo, "D11", "private-authority",
          "Android and iOS ignore authorities that the user installed: phones refuse this relay");
  }

  void judge_order() {
    std::size_t in_order = 1;
    while (in_order < served_.sent.size() &&
           X509_check_issued(served_.sent[in_order].get(), served_.sent[in_order - 1].get()) ==
               X509_V_OK)
      ++in_order;
    if (in_order < served_.sent.size()) {
      add(State::kWarn, "D06", "order",
          fmt::format("the chain is complete, but certificate {} (\"{}\") is not the issuer of the "
                      "one before it: strict clients refuse that",
                      in_order + 1, acme::subject_text(served_.sent[in_order].get())),
          "Put the leaf first, then each issuer behind what it issued.");
      return;
    }
    add(State::kPass, "D06", "",
        fmt::format("the chain of {} certificate{} leads to an authority that is trusted",
                    served_.sent.size(), served_.sent.size() == 1 ? "" : "s"));
    add(State::kPass, "D07", "", fmt::format("the certificate covers {}", served_.name));
  }

  void judge_dates() {
    using std::chrono::duration_cast;
    using std::chrono::seconds;
    const auto from = acme::to_wall_time(X509_get0_notBefore(leaf()));
    const auto until = acme::to_wall_time(X509_get0_notAfter(leaf()));
    const auto current = [&](acme::WallTime now) { return now >= from && now <= until; };
    const bool valid = current(served_.now);
    if (!valid && served_.skew && current(served_.now + *served_.skew) &&
        std::chrono::abs(*served_.skew) >= kSkewWarn) {
      clock(
          State::kFail, "clock",
          fmt::format("by this machine's clock the certificate is {}, by the relay's it is valid: "
                      "the relay's is {} {}",
                      served_.now < from ? "not valid yet" : "expired",
                      span_text(std::chrono::abs(*served_.skew)),
                      served_.skew->count() > 0 ? "ahead" : "behind"));
      return;
    }
    if (served_.now < from) {
      add(State::kFail, "D08", "not-yet-valid",
          fmt::format("the certificate is valid from {} on, which is in {}", acme::to_text(from),
                      span_text(duration_cast<seconds>(from - served_.now))),
          "Check the clock of the machine that made it, and of this one (timedatectl); then make "
          "it "
          "anew or wait.");
      return;
    }
    if (served_.now > until) {
      add(State::kFail, "D08", "expired",
          fmt::format("the certificate expired on {}, {} ago", acme::to_text(until),
                      span_text(duration_cast<seconds>(served_.now - until))),
          "Renew it. If the file on disk is newer than what is served, the server has not read it "
          "again: restart derper; Detour reads it by itself.");
      return;
    }
    const auto left = until - served_.now;
    const auto soon = std::min<acme::WallTime::duration>(kExpiresSoon, (until - from) / 5);
    const auto text = fmt::format("the certificate is valid until {}, {} from now",
                                  acme::to_text(until), span_text(duration_cast<seconds>(left)));
    if (left < soon) {
      add(State::kWarn, "D08", "expires-soon", text,
          "Its renewal should have happened by now: look at the log of whatever renews it.");
    } else {
      add(State::kPass, "D08", "", text);
    }
    judge_clock();
  }

  void judge_clock() {
    if (!served_.skew) return;
    const auto distance = std::chrono::abs(*served_.skew);
    if (distance >= kSkewWarn) {
      clock(State::kWarn, "skew",
            fmt::format("the relay's clock is {} {} of this machine's", span_text(distance),
                        served_.skew->count() > 0 ? "ahead" : "behind"));
    } else {
      add(State::kPass, "D09", "",
          fmt::format("the clocks of both machines agree ({} s apart)", distance.count()));
    }
  }

  void clock(State state, std::string_view fault, std::string cause) {
    add(state, "D09", fault, std::move(cause),
        "Turn NTP on where the clock is wrong: timedatectl set-ntp true. Fresh certificates and "
        "pins are refused by clocks that are behind.");
  }

  void judge_key() {
    const EVP_PKEY* key = X509_get0_pubkey(leaf());
    if (key == nullptr) return;
    const int bits = EVP_PKEY_get_bits(key);
    const bool is_rsa = EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA;
    if (is_rsa && bits < kRsaBitsMin) {
      add(State::kWarn, "D15", "weak-key",
          fmt::format("the certificate's RSA key has {} bits, which clients begin to refuse", bits),
          "Make a new key: ECDSA P-256, or RSA with 2048 bits.");
    }
  }

  /// X509_V_OK, or why the chain does not lead to an authority. Names and dates are left out.
  long verify() const {
    const acme::StorePtr store(X509_STORE_new());
    if (served_.authorities_file.empty()) {
      X509_STORE_set_default_paths(store.get());
    } else {
      X509_STORE_load_file(store.get(), served_.authorities_file.c_str());
    }
    const std::unique_ptr<STACK_OF(X509), FreeStack> untrusted(sk_X509_new_null());
    for (const auto& certificate : served_.sent.subspan(1))
      sk_X509_push(untrusted.get(), certificate.get());
    const acme::StoreContextPtr context(X509_STORE_CTX_new());
    X509_STORE_CTX_init(context.get(), store.get(), leaf(), untrusted.get());
    X509_STORE_CTX_set_default(context.get(), "ssl_server");
    X509_STORE_CTX_set_flags(context.get(), X509_V_FLAG_NO_CHECK_TIME);
    if (X509_verify_cert(context.get()) == 1) return X509_V_OK;
    const int error = X509_STORE_CTX_get_error(context.get());
    return error == X509_V_OK ? X509_V_ERR_UNSPECIFIED : error;
  }

  const CertificateCase& served_;
  std::vector<Finding> findings_;
  bool is_foreign_ = false;
};

}  // namespace

std::vector<Finding> judge_certificate(const CertificateCase& served) {
  return Judge(served).run();
}

std::string pin_of(X509* certificate) {
  return client::format_pin(sha256_of(certificate));
}

std::string span_text(std::chrono::seconds span) {
  const auto count = span.count();
  if (count < 120) return fmt::format("{} s", count);
  if (count < 2 * 3600) return fmt::format("{} min", count / 60);
  if (count < 2 * 86400) return fmt::format("{} h", count / 3600);
  return fmt::format("{} days", count / 86400);
}

}  // namespace detour::doctor
