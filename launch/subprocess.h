#pragma once
// Commands that start ranks: run, stopped, and cleaned up after.

#include <chrono>
#include <functional>
#include <string>

namespace foretoken {

struct CommandOptions {
  std::string output_file;                   // stdout and stderr are appended to it
  std::chrono::seconds grace{110};           // from a stop signal to the moment when ranks are killed
  std::chrono::seconds straggler_limit{15};  // from the end of a rank on this host to that of the command
  std::function<void()> meanwhile;           // called several times a second
  std::function<void(const std::string& text)> log;  // one line for a person
};

struct CommandEnd {
  int code = 0;            // exit code, or 128 + the signal that ended the command; 137 if cut_short
  bool cut_short = false;  // this process had to end it
};

/// Runs a line of the shell that starts ranks of this program (mpirun, srun, or the program itself), and
/// waits.
///
/// Stop: a stop signal (launch/stop_signal.h) to this process is forwarded as SIGUSR1 to the ranks on this
/// host themselves, to each as soon as it catches that signal: before that the signal would end it. Where
/// this host has no ranks the command gets it, and mpirun and srun forward it. The command runs in a session
/// of its own with SIGTERM, SIGINT and SIGHUP blocked: mpirun, which would discard its ranks' output and kill
/// them 2 seconds later, does not see a signal to the terminal's or the job's processes. Open MPI's ranks do
/// not inherit that.
///
/// End: the ranks are killed, and the command with them, when the grace is over, or when some of this host's
/// ranks ended and the command is still waiting 15 seconds later (mpirun may wait for a lost host for many
/// minutes). Nothing that the command started is left on this host when this returns; that takes 10 seconds
/// at most. If this process is killed, the kernel kills the command, and mpirun's ranks end with it.
CommandEnd run_command(const std::string& line, const CommandOptions& options);

/// One word for the shell.
std::string shell_quoted(const std::string& word);

}  // namespace foretoken
