#include "parallel/comm/mpi_world.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <numeric>
#include <thread>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>
#include <mpi.h>

#include "runtime/error.h"
#include "runtime/host/terminal_output.h"
#ifdef __linux__
#include <sched.h>
#include <sys/prctl.h>
#endif

namespace foretoken {

namespace {

int cores_of_rank(MPI_Comm local, int local_ranks) {
#ifdef __linux__
  cpu_set_t own, all;
  CPU_ZERO(&own);
  // sched_getaffinity() fails if the machine has more cores than cpu_set_t can hold. It then fails on all
  // ranks of the machine, so that all of them skip the all-reduce.
  if (sched_getaffinity(0, sizeof own, &own) == 0 &&
      MPI_Allreduce(&own, &all, static_cast<int>(sizeof own), MPI_BYTE, MPI_BOR, local) == MPI_SUCCESS)
    return std::max(1, std::min(CPU_COUNT(&own), CPU_COUNT(&all) / local_ranks));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / local_ranks);
}

/// Records an MPI call in which every rank of the job takes part. MPI has no time limit for it; the watchdog
/// enforces one.
class CollectiveCall {
 public:
  CollectiveCall(FlightRecorder& recorder, const char* name, int ranks, Seconds limit)
      : recorder_(recorder),
        number_(recorder.start(name, channel(recorder, ranks), FlightRecorder::Kind::collective, 0)),
        wait_(recorder, number_, limit) {}
  ~CollectiveCall() { recorder_.finish(number_); }
  CollectiveCall(const CollectiveCall&) = delete;
  CollectiveCall& operator=(const CollectiveCall&) = delete;

 private:
  static int channel(FlightRecorder& recorder, int ranks) {
    std::vector<int> all(static_cast<std::size_t>(ranks));
    std::iota(all.begin(), all.end(), 0);
    return recorder.add_channel("MPI", std::move(all));
  }

  FlightRecorder& recorder_;
  std::uint64_t number_;
  FlightRecorder::Wait wait_;
};

}  // namespace

MpiWorld::MpiWorld(const MpiLimits& limits, std::optional<Watchdog::Options> watchdog) : limits_(limits) {
  int started = 0;
  MPI_Initialized(&started);
  if (started) throw DefectError("mpi: started twice in one process");
  const Job job = job_by_environment();
  if (watchdog && job.known()) watchdog_.emplace(recorder_, job, std::move(*watchdog));
  int provided = MPI_THREAD_SINGLE;
  {
    const CollectiveCall call(recorder_, "MPI_Init", job.size, limits_.wait);
    // Open MPI runs a large MPI_Ireduce as a chain of small segments, and starts the next ones only when it
    // is polled. A binomial tree sends the whole tensor at once: with it, the quickstart's model trains a
    // fifth faster on two replicas with a sharded optimizer. A setting in the environment has priority.
    ::setenv("OMPI_MCA_coll_libnbc_ireduce_algorithm", "2", 0);
    if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
      throw PeerError("mpi: MPI_Init_thread failed");
  }
  if (provided < MPI_THREAD_FUNNELED)
    throw PeerError("mpi: thread support {} is too low, MPI_THREAD_FUNNELED = {} expected", provided,
                    static_cast<int>(MPI_THREAD_FUNNELED));
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &size_);
  MPI_Comm local = MPI_COMM_NULL;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &local);
  MPI_Comm_size(local, &local_ranks_);
  MPI_Comm_rank(local, &local_rank_);
  cores_ = cores_of_rank(local, local_ranks_);
  MPI_Comm_free(&local);
#ifdef __linux__
  prctl(PR_SET_TIMERSLACK,
        1000UL);  // ns; with the default of 50 µs a 5 µs pause of polling takes ten times as long
#endif
}

MpiWorld::~MpiWorld() {
  if (std::uncaught_exceptions() > 0) abort(ExitCode::defect);
  {
    const CollectiveCall farewell(recorder_, "farewell", size_, limits_.wait);
    MPI_Request request = MPI_REQUEST_NULL;
    int rc = MPI_Ibarrier(MPI_COMM_WORLD, &request);
    const bool all_arrived = rc == MPI_SUCCESS && poll_until(limits_.wait, [&] {
                               int done = 0;
                               rc = MPI_Test(&request, &done, MPI_STATUS_IGNORE);
                               return done != 0 || rc != MPI_SUCCESS;
                             });
    if (!all_arrived || rc != MPI_SUCCESS) {
      const std::string reason =
          fmt::format("mpi: not all {} ranks finished within {:g} s", size_, limits_.wait.count());
      if (watchdog_)
        watchdog_->abandon(reason);
      else
        TerminalOutput(STDERR_FILENO)
            .write(fmt::format("[rank {}] {}\n", rank_, reason), std::chrono::seconds(5));
      abort(ExitCode::peer);
    }
  }
  const CollectiveCall call(recorder_, "MPI_Finalize", size_, limits_.wait);
  MPI_Finalize();
}

std::string MpiWorld::library() {
  std::string text(MPI_MAX_LIBRARY_VERSION_STRING, '\0');
  int length = 0;
  if (MPI_Get_library_version(text.data(), &length) != MPI_SUCCESS) return "unknown";
  text.resize(static_cast<std::size_t>(length));
  return text.substr(0, text.find_first_of(",\n"));  // Open MPI appends its package and build
}

void MpiWorld::abort(ExitCode code) {
  const auto abort = [code] {
    std::cout.flush();
    std::fflush(nullptr);
    MPI_Abort(MPI_COMM_WORLD, static_cast<int>(code));
  };
  if (watchdog_) watchdog_->leave(code, abort);
  abort();
  std::_Exit(static_cast<int>(code));
}

}  // namespace foretoken
