#pragma once
// Ends a rank that cannot continue, and reports which rank blocks the job.
//
// A separate thread of the process watches for two things: an MPI call that exceeds its limit and cannot end
// by itself (MPI_Init), and flight records of ranks that have abandoned the job. In either case, or if the
// rank itself calls abandon() after a PeerError, the rank
//   1. writes its flight record to the folder that all ranks share,
//   2. waits up to gather_limit for the records of the others; a stopped rank writes none,
//   3. finds the rank that all wait for. The lowest rank that has a record prints the result and writes it to
//      conclusion.txt. No rank adds a record after that,
//   4. ends the process: leave(). On a host with a remote launcher daemon (remote_daemon()) the lowest rank
//   of
//      this host that has a record leaves last: it kills the processes of the job that remain (a stopped
//      rank). If the daemon then does not end this rank, the rank kills the daemon.
// Steps 1 to 3 do not use MPI. The whole sequence is limited by end_limit: a file system that does not
// answer, or a call that blocks, cannot hold the process.

#include <atomic>
#include <chrono>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "parallel/flight/flight_record.h"
#include "parallel/job.h"
#include "parallel/polling.h"
#include "runtime/error.h"

namespace foretoken {

class Watchdog {
 public:
  struct Options {
    std::filesystem::path folder;                      // folder of the flight records
    std::function<void(const std::string& line)> log;  // prints a line for the user; called from any thread
  };

  /// Maximum time that a rank waits for the records of the others, and maximum time from abandoning the job
  /// to the end of the process.
  static constexpr Seconds gather_limit{3}, end_limit{12};

  /// Starts the thread. The recorder must outlive it.
  Watchdog(const FlightRecorder& recorder, const Job& job, Options options);
  /// Ends the thread. Does not return if any thread of this rank has abandoned the job: that thread ends the
  /// process.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // Host and process of every rank, and each rank's label in the layout ("pp1 dp0"), for messages. Call
  // set_identities() first.
  void set_identities(std::vector<RankIdentity> identities);
  void set_labels(const std::vector<std::string>& labels);
  /// Changes the folder of the records. All ranks must call it between the same two communications, before
  /// any rank has abandoned the job.
  void set_folder(const std::filesystem::path& folder);

  /// Steps 1 to 3. The reporting rank prints `reason` before its conclusion. Does not return if another
  /// thread of this rank has abandoned the job before.
  void abandon(const std::string& reason);

  /// Step 4, with this exit code. `abort` is the launcher's own way to end a job; it may block or end the
  /// process.
  [[noreturn]] void leave(ExitCode code, const std::function<void()>& abort);

 private:
  void watch();
  bool start_abandoning();
  void conclude(const std::string& reason);
  bool another_rank_abandoned() const;
  bool is_last_of_host() const;
  void end_host();
  std::filesystem::path folder() const;
  std::optional<Pause> pause();

  const FlightRecorder& recorder_;
  const Job job_;
  const std::function<void(const std::string&)> log_;
  mutable std::mutex mutex_;
  std::filesystem::path folder_;
  std::vector<RankIdentity> identities_;
  std::chrono::steady_clock::time_point ran_;  // when pause() last looked; guarded by mutex_
  Seconds paused_{};                           // the last pause of this process; guarded by mutex_
  std::chrono::steady_clock::time_point pause_end_;
  std::atomic<bool> ends_ = false;          // asks the thread to end
  std::atomic<bool> abandoning_ = false;    // set once, by the first thread that abandons the job
  std::atomic<std::int64_t> deadline_ = 0;  // end of the process, steady clock, nanoseconds; 0: none
  std::atomic<int> code_;
  std::thread thread_;
};

}  // namespace foretoken
