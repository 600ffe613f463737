#pragma once
// The job of this process, read from the launcher's environment variables, so that it is available before MPI
// starts.

#include <string>
#include <vector>

namespace foretoken {

struct Job {
  int rank = 0;
  int size = 1;
  /// Identifies one launch of the program: all ranks of a launch have the same id, and different launches
  /// have different ids. Contains only letters, digits, '-', '.' and '_'. Empty if the launcher is unknown,
  /// as for a program started by hand or by a launcher that sets only PMI's variables.
  std::string id;

  bool known() const { return size > 1 && !id.empty(); }
};

/// Reads the variables that Open MPI's mpirun or Slurm's srun sets.
Job job_by_environment();

/// State of a process on this host, as Linux reports it: 'R' running, 'S' sleeping, 'D' in uninterruptible
/// sleep (disk, device), 'T' stopped, 't' stopped by a debugger, 'Z' ended but not reaped, 'X' ended; '?'
/// unknown.
struct LocalProcess {
  int rank = 0;
  int pid = 0;
  char state = '?';

  bool stopped() const { return state == 'T' || state == 't'; }
  bool ended() const { return state == 'Z' || state == 'X'; }
};

/// Processes of this host and user whose environment names the same job, this process included, ascending by
/// pid. A child process of a rank counts as that rank.
std::vector<LocalProcess> local_processes(const Job& job);

/// Pid of the daemon that started this process for a launcher on another host ("orted" or "prted"); 0 if the
/// parent is the launcher itself or an unknown program.
int remote_daemon();

}  // namespace foretoken
