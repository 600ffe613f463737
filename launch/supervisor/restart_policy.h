#pragma once
// Decides whether and when a training run that ended is started again. Pure: no clock, no processes.

#include <chrono>
#include <cstdint>
#include <string>

namespace foretoken {

/// The end of one attempt.
struct AttemptEnd {
  int code = 0;                 // 128 + signal if a signal ended it
  std::int64_t step = -1;       // step of the newest checkpoint, -1: none
  bool stop_requested = false;  // the supervisor received a stop signal
  bool run_was_held = false;    // code 2: a job on another host held the run; its heartbeats have stopped
};

struct Decision {
  bool again = false;
  int code = 0;                   // the supervisor's exit code, if the run is not started again
  std::chrono::seconds pause{0};  // before the next attempt
  std::string reason;             // console text
};

/// - 0: done. After a stop request, 75 and every end that a restart could fix return 75.
/// - 2 and 3 (configuration, data) end the run: the next attempt would fail in the same way. Exception: if
///   a job on another host held the run and its heartbeats have stopped, the run is started again.
/// - 1 (defect, out of memory, mpirun's own errors) and 4 (numerical) get one more attempt, and another one
///   after each newer checkpoint. A hardware fault does not repeat; a defect of the program or an unsuitable
///   setting repeats at the same step.
/// - 127 (no such command) ends the run.
/// - All others start again: 5, a signal (137: killed, also for memory), 75 without a stop request here, the
///   launcher's own codes.
/// The run ends after `max_restarts` consecutive restarts without a newer checkpoint. The pause is 1 s, and
/// doubles up to 60 s with each restart without a newer checkpoint.
class RestartPolicy {
 public:
  /// `step` of the newest checkpoint before the first attempt, -1: none.
  RestartPolicy(int max_restarts, std::int64_t step) : max_restarts_(max_restarts), step_(step) {}

  Decision after(const AttemptEnd& end);

 private:
  int max_restarts_;
  std::int64_t step_;
  int restarts_ = 0;         // consecutive restarts without a newer checkpoint
  bool second_try_ = false;  // whether codes 1 and 4 have used their one more attempt
};

}  // namespace foretoken
