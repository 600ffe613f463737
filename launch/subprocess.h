#pragma once
// Commands that this program runs and waits for.

#include <functional>
#include <string>

namespace foretoken {

/// Runs a line of the shell, stdout and stderr at the end of a file, and calls `meanwhile` a few times a
/// second. A stop signal (launch/stop_signal.h) to this process goes on to the command as SIGUSR1, which
/// mpirun hands to its ranks; where this process is killed, the command is ended. Returns the exit code, or
/// 128 + the signal that ended it.
int run_command(const std::string& line, const std::string& output_file,
                const std::function<void()>& meanwhile);

/// One word for the shell.
std::string shell_quoted(const std::string& word);

}  // namespace foretoken
