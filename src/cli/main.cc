#include <string>
#include <vector>

#include "cli/dispatch.h"

int main(int argc, char** argv) {
  const std::vector<std::string> args(argv, argv + argc);
  return detour::cli::dispatch(args);
}
