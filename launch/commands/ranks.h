#pragma once
// Runs a command's body on every rank of the MPI job. An error ends all ranks with the error's exit code.

#include <filesystem>
#include <functional>

#include "parallel/comm/mpi_communicator.h"
#include "runtime/error.h"

namespace foretoken {

/// Starts MPI, runs the body and returns its code. An exception of the body is reported as "[rank 3] …" and
/// ends the job. Ranks that wait for another rank longer than their limit write flight records to
/// `flight_folder`, which all ranks should share, and print which rank they wait for
/// (parallel/flight/watchdog.h). `start_up` is the limit for the start of MPI, and for every wait until the
/// body sets another limit.
ExitCode run_on_ranks(const std::filesystem::path& flight_folder, Seconds start_up,
                      const std::function<ExitCode(MpiCommunicator& world)>& body);

/// The same for a command without a run folder and without limits of its own.
ExitCode run_on_ranks(const std::function<ExitCode(MpiCommunicator& world)>& body);

}  // namespace foretoken
