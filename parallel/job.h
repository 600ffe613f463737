#pragma once
// The job of this process, read from the launcher's environment variables, so that it is available before MPI
// starts.

#include <string>
#include <vector>

#include "parallel/flight/flight_record.h"

namespace foretoken {

struct Job {
  int rank = 0;
  int size = 1;
  /// Identifies one start of the program: the same on all its ranks and different from every other start.
  /// Contains only letters, digits, '-', '.' and '_'. Empty if the launcher is unknown: a program started by
  /// hand, or under PMI alone.
  std::string id;

  bool known() const { return size > 1 && !id.empty(); }
};

/// Reads the variables of Open MPI's mpirun and of Slurm's srun.
Job job_by_environment();

/// Processes of this host and user whose environment names the same job, this process included, ascending by
/// pid. A child process of a rank counts as that rank.
std::vector<LocalProcess> local_processes(const Job& job);

/// Pid of the daemon that started this process for a launcher on another host ("orted" or "prted"); 0 if the
/// parent is the launcher itself or an unknown program.
int remote_daemon();

}  // namespace foretoken
