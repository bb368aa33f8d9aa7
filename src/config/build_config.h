#pragma once

#include <expected>
#include <string>
#include <vector>

#include "config/command_line.h"

/// From the texts of either command line to a checked Config. For this folder only.
namespace detour::config {

/// One setting as it was given, or its default.
struct Input {
  std::string name;    ///< "http-port": how the start-up log calls it.
  std::string flag;    ///< "-http-port": how messages tell the operator to set it.
  std::string text;    ///< Its value.
  std::string source;  ///< "flag -http-port" or "default".
  bool is_set = false;

  /// `-http-port "x" (flag -http-port)` would say it twice, so messages begin with this.
  [[nodiscard]] std::string described() const;
};

/// All settings, in the order in which the start-up log names them.
struct Inputs {
  Input listen;
  Input tls;
  Input hostname;
  Input key_file;
  Input cert_dir;
  Input cert_file;
  Input cert_key_file;
  Input allow_incomplete_chain;
  Input http_port;
  Input stun;
  Input stun_port;
  Input derp;
  Input home;
  Input workers;
  Input tcp_write_timeout;
  Input tcp_user_timeout;
  Input tcp_keepalive_time;
  Input gather;
};

/// What came to light beside the values.
struct Remarks {
  std::vector<std::string> problems;
  std::vector<std::string> notices;
  std::vector<std::string> warnings;
};

/// Checks everything and says everything that is wrong at once: nullopt-like when
/// `remarks.problems` is not empty afterwards, then the result is not to be used.
[[nodiscard]] Start build_start(Personality personality, const Inputs& inputs,
                                const Environment& environment, const Program& program,
                                Remarks& remarks);

/// Whether the listen address asks for TLS by derper's rule: port 443, or `https`.
[[nodiscard]] bool listens_on_https(const std::string& listen_text);

}  // namespace detour::config
