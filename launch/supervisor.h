#pragma once
// foretoken run: starts the ranks of a training run, and starts them again from the newest good checkpoint
// where the way they ended makes that worth a try (launch/restart_policy.h). There is no MPI in this process.
//
// Before every attempt it asks which hosts of the hostfile or of the Slurm allocation are there
// (launch/hosts.h). Where some are gone the ranks start on the others: all ranks where these have slots
// enough, else, for an elastic run, as many as the fastest legal layout takes.
//
// In the run's folder:
//   attempts/0001.log         command, host, start, all that the ranks printed, end and exit code
//   attempts/supervisor.log   what the supervisor said

#include <string>
#include <vector>

#include "launch/config.h"

namespace foretoken {

struct RunArguments {
  std::string config_path;
  std::string run_directory;
  int ranks = 0;         // 0: SLURM_NTASKS, else parallel.pp × parallel.dp
  std::string launcher;  // empty: mpirun; launch/launcher.h tells how the number of ranks goes into it
  int max_restarts = 3;  // in a row that bring no newer checkpoint
  int grace = 110;       // seconds from a stop signal to the moment when ranks are killed
  std::string hostfile;  // Open MPI's; empty: mpirun's own choice, or the Slurm allocation
  bool elastic = false;  // parallel.elastic
  std::vector<std::string> sets;  // section.key=value over CONFIG
};

/// Returns the process's exit code: 0 where the run is done, 75 where it was asked to stop and can go on,
/// else the code of the last attempt. `config` is CONFIG with `sets` applied.
int supervise(const Config& config, const RunArguments& arguments);

}  // namespace foretoken
