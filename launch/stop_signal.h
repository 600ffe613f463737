#pragma once
// Signals that ask a run to stop: SIGTERM, SIGINT, SIGHUP and SIGUSR1 are one request. It is remembered from
// catch_stop_signals() on, so one that arrives before MPI has started is honoured too, and none of them ever
// ends the process: a launcher that repeats its signal does not end a save. SIGQUIT and SIGKILL still do.

#include <functional>
#include <string>
#include <thread>

namespace foretoken {

/// Installs the handlers. SIGINT and SIGHUP stay ignored where they were ignored (nohup, background jobs).
void catch_stop_signals();
/// The first signal that arrived, 0 where none has.
int stop_signal();
/// "SIGTERM"
std::string signal_name(int signal);
/// In a child, before it becomes another program: stop signals and SIGPIPE act as usual again.
void restore_signals();

/// Calls `react` once with the stop signal, on a thread of its own: immediately where the signal arrived
/// before. One at a time; catch_stop_signals() comes first.
class StopListener {
 public:
  explicit StopListener(std::function<void(int signal)> react);
  /// Ends the thread; waits for `react` where it runs.
  ~StopListener();
  StopListener(const StopListener&) = delete;
  StopListener& operator=(const StopListener&) = delete;

 private:
  int wake_;
  std::thread thread_;
};

}  // namespace foretoken
