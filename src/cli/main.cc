#include <string>
#include <vector>

#include "cli/dispatch.h"
#include "net/tls_memory.h"

int main(int argc, char** argv) {
  // Before OpenSSL allocates anything. Too late or refused only costs speed.
  static_cast<void>(detour::net::install_tls_memory());
  const std::vector<std::string> args(argv, argv + argc);
  return detour::cli::dispatch(args);
}
