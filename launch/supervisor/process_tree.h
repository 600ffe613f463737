#pragma once
// The processes that a command started on this host, even if they have another parent by now.

#include <string>
#include <sys/types.h>
#include <vector>

namespace foretoken {

/// A process belongs to the tree if it descends from this process, or if its environment contains the tree's
/// mark: ranks that slurmstepd starts for srun descend from slurmd, but inherit srun's environment.
class ProcessTree {
 public:
  /// Creates a mark that is unique on the host, and makes this process the reaper of its orphaned descendants
  /// (PR_SET_CHILD_SUBREAPER).
  ProcessTree();

  /// NAME=VALUE for the environment of the command.
  const std::string& mark() const { return mark_; }

  /// All living members except this process. Zombies are not counted.
  std::vector<pid_t> members() const;
  /// Members that run this program and whose parent does not: the ranks on this host.
  std::vector<pid_t> ranks() const;

  /// Sends SIGKILL to every member until none is left. Returns false if some are still alive after 5 seconds
  /// (blocked in the kernel, for instance by a dead file system). Reaps all ended children of this process.
  bool kill_all() const;

 private:
  struct Member {
    pid_t pid = 0;
    bool rank = false;
  };
  std::vector<Member> find() const;

  std::string mark_;
};

/// Whether the process has a handler for the signal, so that the signal does not end it.
bool catches_signal(pid_t process, int signal);

}  // namespace foretoken
