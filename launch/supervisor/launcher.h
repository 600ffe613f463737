#pragma once
// The command that starts ranks: mpirun, srun, or another command that takes their number.

#include <string>
#include <vector>

#include "launch/supervisor/hosts.h"

namespace foretoken {

/// `launcher` with every "{ranks}" replaced by the number, or with " -n <ranks>" appended if it contains no
/// "{ranks}".
std::string with_ranks(std::string launcher, int ranks);

/// `launcher` restricted to these hosts: appends "--nodes=2 --nodelist=a,b" for srun, "--host a:4,b:4" for
/// mpirun.
std::string on_hosts(const std::string& launcher, const std::vector<Host>& hosts);

/// Sets environment variables of Open MPI and Slurm for ranks that this process starts; variables that are
/// already set keep their values. Other launchers ignore them.
/// - mpirun may run as root, as in a container.
/// - `local`: more ranks than half this host's hardware threads are allowed, and they are not bound to cores.
/// - Job steps may share the allocation (SLURM_OVERLAP). Slurm counts a job step as running until each of its
///   nodes, even a lost one, reports its end. Without SLURM_OVERLAP the next attempt would wait for that.
/// mpirun's time from SIGTERM to SIGKILL stays at one second: run_command() (launch/supervisor/subprocess.h)
/// keeps stop signals from mpirun, so this is the time between the end of one rank and that of the others.
void set_launcher_defaults(int ranks, bool local);

}  // namespace foretoken
