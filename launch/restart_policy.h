#pragma once
// Whether a training run that ended is started again, and when. Pure: no clock, no processes.

#include <chrono>
#include <cstdint>
#include <string>

namespace foretoken {

/// How one attempt ended.
struct AttemptEnd {
  int code = 0;                 // 128 + signal where a signal ended it
  std::int64_t step = -1;       // of the newest checkpoint, -1: none
  bool stop_requested = false;  // by a signal to the supervisor
};

struct Decision {
  bool again = false;
  int code = 0;                   // where it is not started again: the exit code of the supervisor
  std::chrono::seconds pause{0};  // before the next attempt
  std::string reason;             // for a person
};

/// - 0: done. Code 75, and every end that a restart may mend, once a stop was requested: 75.
/// - 2 and 3 (configuration, data) end the run: the next attempt would fail alike.
/// - 1 (defect, out of memory, mpirun's own errors) and 4 (numerical) get one more attempt, and again one
/// after
///   every progress: a fault of memory or of a machine does not return, a fault of the program or of the
///   settings does, at the same step.
/// - 127 (no such command) ends the run.
/// - All others start again: 5, a signal (137: killed, also for memory), 75 that nobody requested here, the
/// launcher's
///   own codes.
/// The run ends when `max_restarts` restarts in a row brought no newer checkpoint. The pause is 1 s, and
/// doubles up to 60 s with each restart without progress.
class RestartPolicy {
 public:
  /// `step` of the newest checkpoint before the first attempt, -1: none.
  RestartPolicy(int max_restarts, std::int64_t step) : max_restarts_(max_restarts), step_(step) {}

  Decision after(const AttemptEnd& end);

 private:
  int max_restarts_;
  std::int64_t step_;
  int restarts_ = 0;         // in a row without progress
  bool second_try_ = false;  // of a code that gets one, since the last progress
};

}  // namespace foretoken
