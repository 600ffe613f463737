#pragma once
// The MPI job that this process is a rank of. The constructor starts MPI, the destructor ends it; a process
// has one world. It holds what all communicators share: time limits, the flight recorder and the watchdog.
//
// A rank that fails must not leave its peers waiting: catch errors while the world exists and call abort().
// A world that is destroyed during stack unwinding aborts the job.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "parallel/flight/flight_recorder.h"
#include "parallel/flight/watchdog.h"
#include "parallel/polling.h"
#include "runtime/error.h"

namespace foretoken {

struct MpiLimits {
  /// Time limit of one wait. It is long at start-up, when ranks read files of different sizes, and is reduced
  /// once steps run.
  Seconds wait{600};
  /// MPI counts are int: a longer tensor is sent as one derived type, or reduced in pieces. Must be the same
  /// on all ranks.
  std::int64_t elements_per_call = std::int64_t{1} << 30;
};

/// Communications that must progress while this rank waits for other ranks.
class Background {
 public:
  virtual ~Background() = default;
  /// Returns immediately.
  virtual void progress() = 0;
};

class MpiWorld {
 public:
  /// Throws PeerError if MPI does not start and DefectError if the process has already started it. With
  /// `watchdog` options, several ranks and a known launcher, a rank that waits too long ends the job and
  /// reports the rank that it waits for; MPI_Init must then complete within limits.wait.
  explicit MpiWorld(const MpiLimits& limits = {}, std::optional<Watchdog::Options> watchdog = std::nullopt);
  /// Waits for all ranks; aborts the job if a rank does not arrive within the time limit.
  ~MpiWorld();
  MpiWorld(const MpiWorld&) = delete;
  MpiWorld& operator=(const MpiWorld&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// Ranks of the job on this machine, this one included.
  int local_ranks() const { return local_ranks_; }
  /// This rank's index among the ranks of this machine.
  int local_rank() const { return local_rank_; }
  /// Cores for this rank's threads: at most the cores that this rank may use, and at most its share of the
  /// cores that all ranks of the machine may use together. The launcher may have bound the rank to some
  /// cores, or the scheduler the job.
  int cores() const { return cores_; }

  MpiLimits& limits() { return limits_; }
  FlightRecorder& recorder() { return recorder_; }
  /// Null without watchdog options, with one rank, or if the launcher is unknown.
  Watchdog* watchdog() { return watchdog_ ? &*watchdog_ : nullptr; }

  /// Registers communications; remove them before their object is destroyed.
  void add(Background& background) { background_.push_back(&background); }
  void remove(Background& background) { std::erase(background_, &background); }
  /// Progresses all registered communications; every wait calls it.
  void progress() {
    for (Background* background : background_) background->progress();
  }

  /// Version of the MPI library: "Open MPI v4.1.4".
  static std::string library();

  /// Ends all ranks; mpirun returns the exit code. With a watchdog this takes at most Watchdog::end_limit,
  /// even if MPI blocks.
  [[noreturn]] void abort(ExitCode code);

 private:
  int rank_ = 0;
  int size_ = 1;
  int local_ranks_ = 1;
  int local_rank_ = 0;
  int cores_ = 1;
  MpiLimits limits_;
  FlightRecorder recorder_;
  std::optional<Watchdog> watchdog_;
  std::vector<Background*> background_;
};

}  // namespace foretoken
