#include "doctor/probe_relay.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/duration.h"
#include "doctor/probe.h"
#include "doctor/relay_proof.h"

namespace detour::doctor {

void Probe::run() {
  check_dns();
  if (addresses_.empty()) {
    report_.leave_out({"D13", "D04", "D06", "D16", "D19", "D22"});
    return;
  }
  if (target_.relays) check_relay();
  check_stun();
  if (target_.relays) compare_stun_with_relay();
  if (target_.http_port) check_port_80();
}

void Probe::check_relay() {
  check_tcp();
  if (!address_) {
    report_.leave_out({"D04", "D06", "D16", "D18", "D19"});
    return;
  }
  if (target_.use_tls && !check_tls()) {
    report_.leave_out({"D16", "D17", "D18", "D19"});
    return;
  }
  if (!check_upgrade()) {
    report_.leave_out({"D18", "D19"});
    return;
  }
  check_websocket();
  check_probe_endpoint();
  if (!check_one_server()) {
    report_.leave_out({"D19"});
    return;
  }
  prove();
}

void Probe::prove() {
  report_.doing("relay proof: two temporary keys, packets both ways");
  client::DialOptions dial{.host = target_.host, .port = target_.port, .use_tls = target_.use_tls};
  dial.address = address_->ip_text();
  dial.tls.trust.kind = client::Trust::Kind::kAnyone;  // Judged above.
  dial.timeout = options_.timeout;
  const ProofOptions proof_options{
      .dial = dial,
      .packet_timeout = options_.timeout,
      .throughput_time = options_.throughput ? options_.throughput_time : Duration::zero()};
  const Proof proof = prove_relay(proof_options);
  if (proof.end == Proof::End::kRefused) {
    if (options_.known_key) {
      prove_with_known_key(proof_options);
    } else {
      report_.add(
          State::kInfo, "D20", "unknown-refused",
          "a key that the relay does not know is refused, so packets could not be sent for "
          "a test: if your own nodes are refused too, its log names the key and the source; "
          "--key-file proves relaying with a key that you admit");
    }
    check_home_page(false);
    return;
  }
  if (proof.end == Proof::End::kNoLogin) {
    report_.add(State::kFail, "D19", "no-login",
                fmt::format("the login does not end: {}", proof.failure),
                "The relay hangs, or something between cuts the stream: look at its log and load.");
    return;
  }
  judge_proof(proof);
  check_home_page(true);
}

void Probe::prove_with_known_key(ProofOptions proof_options) {
  proof_options.key = options_.known_key;
  const std::string name = options_.known_key->public_key().typed();
  const Proof proof = prove_relay(proof_options);
  if (proof.end != Proof::End::kDone) {
    report_.add(State::kFail, "D20", "known-refused",
                fmt::format("strangers are refused, and {} of --key-file too", name),
                "Add that key to the relay's allow file, or to what the verify URL admits; the "
                "relay's log names the source that refused it.");
    return;
  }
  report_.add(State::kPass, "D20", "", fmt::format("strangers are refused, {} is admitted", name));
  judge_proof(proof);
}

void Probe::judge_proof(const Proof& proof) {
  const auto counts = fmt::format("{} of {} packets", proof.arrived, proof.sent);
  if (proof.damaged > 0) {
    report_.add(
        State::kFail, "D19", "damaged",
        fmt::format("{} packets arrived with other bytes than they left with", proof.damaged),
        "Something between rewrites the stream, or the relay is broken.");
  } else if (proof.arrived == 0) {
    report_.add(State::kFail, "D19", "nothing-relayed",
                "TLS and login are fine, and no packet is delivered",
                "Several servers behind one address, a proxy that holds data back, or a broken "
                "relay: restart it, and connect to it without anything in between.");
  } else if (!proof.lost_sizes.empty() && proof.sizes.size() > 1) {
    report_.add(State::kFail, "D19", "size-lost",
                fmt::format("packets of {} bytes are lost, smaller ones arrive",
                            fmt::join(proof.lost_sizes, " and ")),
                "An MTU that is too large somewhere on the path (PPPoE, tunnels) with ICMP "
                "blocked: ip link set dev eth0 mtu 1400 on the server for a test, or clamp the "
                "MSS.");
  } else if (proof.arrived < proof.sent) {
    report_.add(State::kFail, "D19", "loss", fmt::format("only {} arrived", counts),
                "Look at the relay's log and load, and at the path.");
  } else if (!proof.in_order) {
    report_.add(State::kWarn, "D19", "order", "packets arrived in another order than sent",
                "The relay reorders packets: tunnelled connections get slow.");
  } else {
    report_.add(State::kPass, "D19", "",
                fmt::format("{} of 1 to 65536 bytes arrived both ways in order, round trip {:.1f} "
                            "ms",
                            counts, in_milliseconds(proof.round_trip)));
  }
  if (proof.bits_per_second > 0)
    report_.add(State::kInfo, "D27", "throughput",
                fmt::format("about {:.1f} Mbit/s through the relay from here, both ways over this "
                            "line",
                            proof.bits_per_second / 1e6));
}

void probe_relay(const Target& target, const ProbeOptions& options, Report& report) {
  Probe(target, options, report).run();
}

}  // namespace detour::doctor
