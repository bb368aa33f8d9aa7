#pragma once

#include <chrono>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "client/tls_stream.h"
#include "crypto/keys.h"
#include "doctor/dns.h"
#include "doctor/http_answer.h"
#include "doctor/probe_relay.h"
#include "doctor/relay_proof.h"
#include "doctor/report.h"
#include "doctor/stun_probe.h"
#include "doctor/target.h"
#include "doctor/wire.h"
#include "net/address.h"

namespace detour::doctor {

/// The checks of probe_relay(), one after the other, each on what the ones before found out. Their
/// definitions are by layer: probe_names.cc (D12, D13), probe_tls.cc (D04, D06 to D11, D14, D15),
/// probe_http.cc (D16 to D18, D21, D24), probe_stun.cc (D22, D23), and the rest in probe_relay.cc.
class Probe {
 public:
  Probe(const Target& target, const ProbeOptions& options, Report& report)
      : target_(target), options_(options), report_(report) {}

  void run();

 private:
  void check_relay();

  /// Fills `addresses_` with what clients would dial.
  void check_dns();
  static bool is_public(const DnsAnswer& answer);
  /// Whether its addresses can be dialled. With addresses in the map a fault is a warning only.
  bool judge_answer(const DnsAnswer& answer, bool map_has_addresses);
  void compare_answers(const std::vector<DnsAnswer>& answers);
  void compare_with_map(const DnsAnswer& answer);

  /// Connects to every address. `address_` is the first that answers.
  void check_tcp();
  void judge_connect_time(const net::SocketAddress& address, Duration time);
  void judge_no_connection(const std::string& address, int error, State state);

  TlsAnswer try_tls(const std::string& server_name, client::TlsVersions versions);
  /// False when nothing further makes sense.
  bool check_tls();
  void check_versions(const TlsAnswer& first);
  void judge_no_tls(const TlsAnswer& answer);
  /// Cut off after our first message: because of the name in it?
  void judge_reset(const TlsAnswer& answer);
  void judge_alert(const TlsAnswer& answer);
  /// The other machine's clock less ours.
  std::optional<std::chrono::seconds> fetch_date();

  /// A wire with TLS, ready for a request; false when it cannot be had any more.
  bool open(Wire* wire);
  std::string get(std::string_view path, std::string_view extra = {});
  std::optional<HttpAnswer> fetch(std::string_view path);
  struct Upgraded {
    std::optional<HttpAnswer> answer;
    std::optional<crypto::NodePublic> key;  ///< Out of the ServerKey frame.
  };
  Upgraded upgrade();
  bool check_upgrade();
  void judge_no_upgrade(const HttpAnswer& answer);
  /// Who ends TLS, where it is not the relay and yet works.
  void note_front(const HttpAnswer& answer);
  bool websocket_works();
  static bool http_equals(std::string_view a, std::string_view b);
  void check_websocket();
  void check_probe_endpoint();
  bool check_one_server();
  void check_port_80();
  void check_home_page(bool is_open_relay);

  void prove();
  /// For a relay that refuses strangers.
  void prove_with_known_key(ProofOptions proof_options);
  void judge_proof(const Proof& proof);

  void check_stun();
  void judge_stun(const net::SocketAddress& address, const StunAnswer& answer);
  void judge_no_stun(const net::SocketAddress& address, const StunAnswer& answer, State state);
  void judge_mapped(const net::SocketAddress& address, const StunAnswer& answer);
  void compare_stun_with_relay();

  const Target& target_;
  const ProbeOptions& options_;
  Report& report_;
  std::vector<std::string> addresses_;         ///< IP literals, those of the map first.
  std::optional<net::SocketAddress> address_;  ///< That answered; all else goes there.
  std::set<std::string> keys_;                 ///< Of the servers that were met.
  bool has_meta_ = false;
  bool stun_works_ = false;
};

}  // namespace detour::doctor
