#pragma once
// Signals that ask a run to stop: SIGTERM, SIGINT, SIGHUP and SIGUSR1 all make the same request. The first
// one that arrives after catch_stop_signals() is stored, so a signal before the start of MPI counts too. None
// of these signals ends the process, so a launcher that repeats its signal does not interrupt a save. SIGQUIT
// and SIGKILL still end the process.

#include <functional>
#include <string>
#include <thread>

namespace foretoken {

/// Installs the handlers. SIGINT and SIGHUP stay ignored if they were ignored (nohup, background jobs).
void catch_stop_signals();
/// The first signal that arrived, 0 if none has.
int stop_signal();
/// Example: "SIGTERM".
std::string signal_name(int signal);
/// For a child before exec: restores the default actions of stop signals and SIGPIPE.
void restore_signals();

/// Calls `react` once with the stop signal, on a separate thread; immediately if the signal arrived before.
/// Requires catch_stop_signals(). The caller must ensure that only one listener exists at a time.
class StopListener {
 public:
  explicit StopListener(std::function<void(int signal)> react);
  /// Ends the thread; waits for `react` if it is running.
  ~StopListener();
  StopListener(const StopListener&) = delete;
  StopListener& operator=(const StopListener&) = delete;

 private:
  int wake_;
  std::thread thread_;
};

}  // namespace foretoken
