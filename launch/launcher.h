#pragma once
// The command that starts ranks: mpirun, srun, or another command that takes their number.

#include <string>

namespace foretoken {

/// `launcher` with every "{ranks}" replaced by the number, or with " -n <ranks>" appended if it has none.
std::string with_ranks(std::string launcher, int ranks);

/// Sets Open MPI's environment variables for ranks that this process starts; variables that are already set
/// keep their values. Other launchers ignore them.
/// - mpirun may run as root, as in a container.
/// - `local`: more ranks than half this host's hardware threads are allowed, and they are not bound to cores.
/// mpirun's time from SIGTERM to SIGKILL stays at one second: run_command() (launch/subprocess.h) keeps stop
/// signals from mpirun, so this is the time between the end of one rank and that of the others.
void set_open_mpi_defaults(int ranks, bool local);

}  // namespace foretoken
