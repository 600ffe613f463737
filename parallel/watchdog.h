#pragma once
// Ends a rank that cannot continue, and reports which rank blocks the job.
//
// A thread beside the rank's own watches two things: a wait that is over its limit (MPI_Init and other calls
// that have no limit of their own), and records of other ranks that have given up. In either case, or where
// the rank itself calls give_up() after a PeerError, the rank
//   1. writes its flight record to the folder that all ranks share,
//   2. waits some seconds for the records of the others. A stopped rank leaves none,
//   3. finds the rank for which all wait; the lowest rank with a record says it and writes it to
//   conclusion.txt, after
//      which no record is added,
//   4. leaves. The lowest rank of each host leaves last: it kills processes of the job that are still there
//   (a stopped
//      rank), and where the host's daemon of the launcher does not end it, the daemon too.
// No step uses MPI. All together is limited: a folder that does not answer, or a call that blocks, cannot
// hold the process.

#include <atomic>
#include <chrono>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "parallel/flight_record.h"
#include "parallel/job.h"
#include "parallel/polling.h"
#include "runtime/error.h"

namespace foretoken {

class Watchdog {
 public:
  struct Options {
    std::filesystem::path folder;                      // of the records
    std::function<void(const std::string& line)> say;  // prints a line for people; called from any thread
  };

  /// How long a rank waits for the records of the others, and how long it may take from giving up to its end.
  static constexpr Seconds gather_limit{3}, end_limit{12};

  /// Starts the thread. The recorder must outlive it.
  Watchdog(const FlightRecorder& recorder, const Job& job, Options options);
  /// Ends the thread. Destroy the watchdog only while no rank has given up.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  /// Host and process of every rank, then their places in the layout, for messages.
  void set_identities(std::vector<RankIdentity> identities);
  void set_labels(const std::vector<std::string>& labels);
  /// Records go to another folder from here on. All ranks must call it between the same two operations, and
  /// no rank may have given up.
  void set_folder(const std::filesystem::path& folder);

  /// Steps 1 to 3. `reason` is what the caller would say: the rank that speaks says it first. Where another
  /// thread has given the rank up it does not return.
  void give_up(const std::string& reason);

  /// Step 4, with this exit code. `abort` is the launcher's own way to end a job: it may block or end the
  /// process.
  [[noreturn]] void leave(ExitCode code, const std::function<void()>& abort);

 private:
  void watch();
  bool start_giving_up();
  void conclude(const std::string& reason);
  bool others_gave_up() const;
  bool is_last_of_host() const;
  void end_host();
  std::filesystem::path folder() const;

  const FlightRecorder& recorder_;
  const Job job_;
  const std::function<void(const std::string&)> say_;
  mutable std::mutex mutex_;
  std::filesystem::path folder_;
  std::vector<RankIdentity> identities_;
  std::atomic<bool> ends_ = false;          // the thread is asked to end
  std::atomic<bool> giving_up_ = false;     // by any thread
  std::atomic<std::int64_t> deadline_ = 0;  // of the process, in nanoseconds of the steady clock; 0: none
  std::atomic<int> code_;
  std::thread thread_;
};

}  // namespace foretoken
