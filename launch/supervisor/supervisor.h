#pragma once
// foretoken run: starts the ranks of a training run, and starts them again from the newest good checkpoint if
// a restart may help (launch/supervisor/restart_policy.h). This process does not use MPI.
//
// Before every attempt it checks which hosts of the hostfile or of the Slurm allocation are available
// (launch/supervisor/hosts.h). If some hosts are lost, the ranks start on the other hosts: all ranks if these
// hosts have enough slots; otherwise, only for an elastic run, as many ranks as the fastest legal layout
// uses.
//
// In the run's folder:
//   attempts/0001.log         command, host, start, the ranks' output, end and exit code
//   attempts/doctor.log       the same of `foretoken doctor`, if it was asked for
//   attempts/supervisor.log   the supervisor's output

#include <string>
#include <vector>

#include "launch/config/config.h"

namespace foretoken {

struct RunArguments {
  std::string config_path;
  std::string run_directory;
  int ranks = 0;  // 0: SLURM_NTASKS, else parallel.pp × parallel.dp
  /// The command that starts the ranks; empty: mpirun. with_ranks() (launch/supervisor/launcher.h) adds their
  /// number.
  std::string launcher;
  int max_restarts = 3;  // consecutive, without a newer checkpoint
  int grace = 110;       // seconds from a stop signal until ranks are killed
  std::string hostfile;  // Open MPI's; empty: mpirun's own choice, or the Slurm allocation
  bool elastic = false;  // parallel.elastic
  bool doctor =
      false;  // run `foretoken doctor` before the first attempt; its code ends the run unless it is 0
  std::vector<std::string> sets;  // section.key=value applied after CONFIG
};

/// Returns the exit code: 0 if the run is done, 75 if it was stopped on request and can be resumed, otherwise
/// the code of the last attempt. `config` is CONFIG with `sets` applied.
int supervise(const Config& config, const RunArguments& arguments);

}  // namespace foretoken
