#pragma once
// Runs commands that start ranks, forwards stop signals to them, and cleans up after them.

#include <chrono>
#include <functional>
#include <string>

namespace foretoken {

struct CommandOptions {
  std::string output_file;                   // stdout and stderr are appended to it
  std::chrono::seconds grace{110};           // from a stop signal until ranks are killed
  std::chrono::seconds straggler_limit{15};  // from the end of a rank on this host until the command is ended
  std::chrono::seconds launcher_limit{5};    // the same from the end of the last rank on this host
  std::chrono::seconds startup_limit{0};     // until the first rank or the first output; 0: no limit
  std::function<void()> meanwhile;           // called several times a second
  std::function<void(const std::string& text)> log;  // receives one console line
};

struct CommandEnd {
  int code = 0;            // exit code, or 128 + the signal that ended the command; 137 if cut_short
  bool cut_short = false;  // this process had to end the command
};

/// Runs a shell line that starts ranks of this program (mpirun, srun, or the program itself), and waits for
/// it.
///
/// Stop: a stop signal (launch/console/stop_signal.h) to this process is forwarded as SIGUSR1 to the ranks on
/// this host, to each rank once it handles that signal; before that the signal would end it. If this host has
/// no ranks, the command receives it, and mpirun and srun forward it. The command runs in its own session
/// with SIGTERM, SIGINT and SIGHUP blocked. mpirun therefore does not see a signal to the processes of the
/// terminal or the job; it would discard its ranks' output and kill them 2 seconds later. Open MPI's ranks do
/// not inherit the blocked signals.
///
/// End: the ranks and the command are killed when the grace period is over, or if the command still waits 15
/// seconds after some of this host's ranks ended, or 5 seconds after all did (mpirun may wait for a lost host
/// for many minutes), or if it has started no rank on this host and printed nothing within the start-up
/// limit. When this returns, nothing that the command started is left on this host; the clean-up takes at
/// most 10 seconds. If this process is killed, the kernel kills the command, and mpirun's ranks end with it.
CommandEnd run_command(const std::string& line, const CommandOptions& options);

/// Quotes a word for the shell.
std::string shell_quoted(const std::string& word);

}  // namespace foretoken
