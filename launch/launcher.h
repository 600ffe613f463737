#pragma once
// The command that starts ranks: mpirun, srun, or another that takes their number.

#include <string>

namespace foretoken {

/// `launcher` with every "{ranks}" replaced by the number, or with " -n <ranks>" appended where it holds
/// none.
std::string with_ranks(std::string launcher, int ranks);

/// Settings of Open MPI, by its environment, for ranks that this process starts; a variable that is set
/// already stays. Other launchers ignore them.
/// - mpirun starts for root, as in a container.
/// - `local`: more ranks than half this host's hardware threads are accepted, and not bound to cores.
/// The time from mpirun's SIGTERM to its SIGKILL stays at a second: run_command() (launch/subprocess.h) keeps
/// stop signals from mpirun, so this is the time from the end of one rank to that of the others.
void set_open_mpi_defaults(int ranks, bool local);

}  // namespace foretoken
