#pragma once
// The job of this process, read from the launcher's environment variables, so it is known before MPI starts.

#include <string>
#include <vector>

#include "parallel/flight_record.h"

namespace foretoken {

struct Job {
  int rank = 0;
  int size = 1;
  /// The same for all ranks of one start of the program, of no other; of letters, digits, '-', '.' and '_'.
  /// Empty where the launcher is unknown: a program that was started by hand, or under PMI alone.
  std::string id;

  bool known() const { return size > 1 && !id.empty(); }
};

/// By the variables of Open MPI's mpirun and of Slurm's srun.
Job job_by_environment();

/// This process among them: processes of this host and user whose environment names the same job, ascending
/// by pid. Children of a rank count as that rank.
std::vector<LocalProcess> local_processes(const Job& job);

/// The daemon that started this process on behalf of a launcher on another host ("orted"): its pid, or 0
/// where the parent is the launcher itself or none that is known.
int remote_daemon();

}  // namespace foretoken
