#pragma once
// Running a command's body on every rank of the MPI job: errors end all ranks, with the error's exit code.

#include <functional>

#include "parallel/mpi_communicator.h"
#include "runtime/error.h"

namespace foretoken {

/// Starts MPI, runs the body and returns its code. What the body throws is reported as "[rank 3] …" and ends
/// the job.
ExitCode run_on_ranks(const std::function<ExitCode(MpiCommunicator& world)>& body);

}  // namespace foretoken
