#include "launch/stop_signal.h"

#include <csignal>
#include <initializer_list>

namespace foretoken {

namespace {

volatile std::sig_atomic_t caught = 0;

void take(int signal) {
  caught = signal;
  if (signal != SIGUSR1) std::signal(signal, SIG_DFL);
}

}  // namespace

void catch_stop_signals() {
  for (int signal : {SIGUSR1, SIGTERM, SIGINT}) std::signal(signal, take);
}

int stop_signal() {
  return caught;
}

}  // namespace foretoken
