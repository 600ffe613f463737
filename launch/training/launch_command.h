#pragma once
// Finds out how this program was launched, so that it can print commands that a user may paste.

#include <string>
#include <vector>

namespace foretoken {

using Words = std::vector<std::string>;

struct LaunchCommand {
  std::string ranks;       // starts the ranks: "mpirun -n 4 --oversubscribe"; empty: one process, no launcher
  std::string program;     // as it was typed: "build/bin/foretoken"
  std::string supervisor;  // the whole `foretoken run` command that started the ranks; empty: none did

  /// A command line that runs foretoken with these arguments in one process, or on all ranks.
  std::string on_one(const std::string& arguments) const { return program + " " + arguments; }
  std::string on_ranks(const std::string& arguments) const {
    return (ranks.empty() ? "" : ranks + " ") + on_one(arguments);
  }
};

/// The input of launch_command(), read from the system.
struct LaunchSurroundings {
  Words own;                     // command line of this process
  std::vector<Words> ancestors;  // command lines of its parent, grandparent, ...
  int ranks = 1;
  bool root = false;            // Open MPI refuses to start ranks for root without a flag
  bool oversubscribes = false;  // the environment tells Open MPI to start more ranks than cores
  bool slurm_step = false;      // srun started the ranks
};

/// If an ancestor is mpirun on this host, the command repeats the words of its command line, and as flags the
/// settings that it took from its environment. Otherwise the command names the launcher with the number of
/// ranks.
LaunchCommand launch_command(const LaunchSurroundings& surroundings);
/// The same for this process.
LaunchCommand launch_command(int ranks);

/// Quotes a word for the shell if necessary.
std::string shell_word(const std::string& word);

}  // namespace foretoken
