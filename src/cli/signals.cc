#include "cli/signals.h"

#include <pthread.h>

#include <initializer_list>

namespace detour::cli {

ServeSignals::ServeSignals() {
  sigemptyset(&set_);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set_, signal);
  pthread_sigmask(SIG_BLOCK, &set_, &before_);
}

ServeSignals::~ServeSignals() {
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

int ServeSignals::wait() const {
  int signal = 0;
  while (sigwait(&set_, &signal) != 0) {
  }
  return signal;
}

bool ServeSignals::has_come() const {
  const timespec at_once{};
  return sigtimedwait(&set_, nullptr, &at_once) > 0;
}

}  // namespace detour::cli
