#pragma once
// The acknowledgement of a stop request. It is printed when the signal arrives, not when the step ends:
//   stop requested (SIGTERM): finishing step 12, then a checkpoint

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>

#include "launch/console/console.h"
#include "launch/console/stop_signal.h"
#include "parallel/comm/communicator.h"

namespace foretoken {

/// Text "stop requested (SIGTERM): ..." for a rank that computes `step`, or that is starting up if `step` is
/// 0. On ranks other than 0 the line names the rank.
std::string stop_acknowledgement(int signal, std::int64_t step, const std::string& rank_label);

class StopNotice {
 public:
  /// Acknowledges a stop signal to this rank from now on. A launcher often signals every rank; then only one
  /// rank prints: rank 0, if it was signalled.
  StopNotice(Console& console, int rank);

  /// Sets the run folder, in which ranks agree on which of them prints. Collective; call it once.
  void open_run(Communicator& world, const std::string& run);
  /// `act` saves the staged state, the one that can be saved in the middle of a step. It is called on the
  /// listener's thread if the signal announces a kill (all except SIGUSR1) and the step has not ended within
  /// about 150 ms.
  void while_in_step(std::function<void()> act);
  /// Call this at the end of the run, after an error too: the function given to while_in_step() is not called
  /// again.
  void close_run();
  /// This rank computes `step` from now on.
  void enter_step(std::int64_t step) { step_ = step; }

 private:
  void acknowledge(int signal);
  /// Whether this rank is the one that prints.
  bool claim(const std::string& run) const;
  void say(int signal);

  Console& console_;
  int rank_;
  std::atomic<std::int64_t> step_ = 0;
  std::mutex mutex_;
  std::string run_;            // empty during start-up; guarded by mutex_
  int unacknowledged_ = 0;     // a signal that is acknowledged once run_ is set; guarded by mutex_
  std::function<void()> act_;  // guarded by mutex_
  StopListener listener_;      // last, because its thread uses the other members
};

}  // namespace foretoken
