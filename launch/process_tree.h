#pragma once
// The processes that a command of ours started on this host, however they were re-parented.

#include <string>
#include <sys/types.h>
#include <vector>

namespace foretoken {

/// A process belongs to the tree if it descends from this process, or if its environment holds the tree's
/// mark: ranks that slurmstepd started for srun descend from slurmd, but inherit srun's environment.
class ProcessTree {
 public:
  /// Makes a mark that is unique on the host, and this process the reaper of orphans below it
  /// (PR_SET_CHILD_SUBREAPER).
  ProcessTree();

  /// NAME=VALUE for the environment of the command.
  const std::string& mark() const { return mark_; }

  /// All living members except this process. Zombies do not count.
  std::vector<pid_t> members() const;
  /// Members that run this program and whose parent does not: the ranks on this host.
  std::vector<pid_t> ranks() const;

  /// SIGKILL to every member, again until none is left. False if some are still alive after 5 seconds
  /// (blocked in the kernel, for instance on a dead file system). Reaps every child of this process that has
  /// ended.
  bool kill_all() const;

 private:
  struct Member {
    pid_t pid = 0;
    bool rank = false;
  };
  std::vector<Member> find() const;

  std::string mark_;
};

/// Whether the process has a handler for the signal, so that its arrival does not end it.
bool catches_signal(pid_t process, int signal);

}  // namespace foretoken
