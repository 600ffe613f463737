#include "launch/console/stop_signal.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utility>

#include "runtime/error.h"

namespace foretoken {

namespace {

constexpr std::array stop_signals{SIGTERM, SIGINT, SIGHUP, SIGUSR1};

// Lock-free, so the handler may use them.
std::atomic<int> caught = 0;
std::atomic<int> arrival = -1;  // an event descriptor, readable once a signal arrived

void remember(int signal) {
  const int saved_errno = errno;
  int none = 0;
  if (caught.compare_exchange_strong(none, signal)) {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(arrival, &one, sizeof one);
  }
  errno = saved_errno;
}

int make_event() {
  const int event = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (event < 0) throw DefectError("signals: eventfd: {}", std::strerror(errno));
  return event;
}

bool is_ignored(int signal) {
  struct sigaction action {};
  return ::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

}  // namespace

void catch_stop_signals() {
  if (arrival < 0) arrival = make_event();
  struct sigaction action {};
  action.sa_handler = remember;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int signal : stop_signals)
    if ((signal != SIGINT && signal != SIGHUP) || !is_ignored(signal)) ::sigaction(signal, &action, nullptr);
}

int stop_signal() {
  return caught;
}

std::string signal_name(int signal) {
  const char* name = sigabbrev_np(signal);
  return name ? std::string("SIG") + name : "signal " + std::to_string(signal);
}

void restore_signals() {
  for (const int signal : stop_signals) std::signal(signal, SIG_DFL);
  std::signal(SIGPIPE, SIG_DFL);
}

StopListener::StopListener(std::function<void(int signal)> react) : wake_(make_event()) {
  thread_ = std::thread([this, react = std::move(react)] {
    std::array<pollfd, 2> events{pollfd{.fd = arrival, .events = POLLIN, .revents = 0},
                                 pollfd{.fd = wake_, .events = POLLIN, .revents = 0}};
    while (::poll(events.data(), events.size(), -1) < 0 && errno == EINTR) {
    }
    if (events[0].revents != 0) react(stop_signal());
  });
}

StopListener::~StopListener() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_, &one, sizeof one);
  thread_.join();
  ::close(wake_);
}

}  // namespace foretoken
