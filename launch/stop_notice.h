#pragma once
// The acknowledgement of a stop request, printed when the signal arrives, not when the step ends:
//   stop requested (SIGTERM): finishing step 12, then a checkpoint

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>

#include "launch/console.h"
#include "launch/stop_signal.h"
#include "parallel/communicator.h"

namespace foretoken {

/// "stop requested (SIGTERM): ..." for a rank that is in `step`, or in start-up where it is 0; the line of a
/// rank other than 0 names it.
std::string stop_acknowledgement(int signal, std::int64_t step, const std::string& rank_label);

class StopNotice {
 public:
  /// From here on a signal to this rank is acknowledged. A launcher often signals every rank: one of them
  /// speaks, rank 0 if it was signalled.
  StopNotice(Console& console, int rank);

  /// The run folder, in which ranks agree on who speaks. Collective; once.
  void open_run(Communicator& world, const std::string& run);
  /// Called on the listener's thread where the signal announces a kill (all but SIGUSR1) and the step has not
  /// ended within some 150 ms: what can be saved in the middle of a step.
  void while_in_step(std::function<void()> act);
  /// At the end of the run, however it ends: what while_in_step() gave is called no more.
  void close_run();
  /// The step that this rank computes from now on.
  void enter_step(std::int64_t step) { step_ = step; }

 private:
  void acknowledge(int signal);
  /// Whether this rank is the one that speaks.
  bool claim(const std::string& run) const;
  void say(int signal);

  Console& console_;
  int rank_;
  std::atomic<std::int64_t> step_ = 0;
  std::mutex mutex_;
  std::string run_;            // empty in start-up; guarded by mutex_
  int unsaid_ = 0;             // signal of a rank that waits for run_; guarded by mutex_
  std::function<void()> act_;  // guarded by mutex_
  StopListener listener_;      // last: its thread uses the others
};

}  // namespace foretoken
