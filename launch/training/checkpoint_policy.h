#pragma once
// Decides when a run saves, stages a copy of its state, and stops. All ranks reach the same decision: at the
// end of a step each rank votes according to its clock, its disk and its signals, the votes are summed over
// the ranks, and decide() is a pure function of the sums.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace foretoken {

/// The rules, equal on every rank.
struct CheckpointRules {
  std::int64_t every_steps = 0;           // 0: no saves by steps
  std::chrono::duration<double> every{};  // 0: no saves by time
  std::int64_t last_step = 0;             // last step of the run; always saved
  std::int64_t stop_after = 0;            // stop with a checkpoint after this step; 0: no such step
};

/// Console text for the start-up of a run: how to stop the run, and how much work is lost at most if it is
/// killed.
std::string stop_help(const CheckpointRules& rules);

/// Number of ranks that cast each vote at the end of a step.
struct RankVotes {
  std::int64_t ranks = 1;  // ranks of the job
  std::int64_t signalled = 0;
  std::int64_t save_ready = 0;   // the interval has passed, and no earlier save is being written
  std::int64_t stage_ready = 0;  // stage_ready() of the rank's CheckpointClock
};

struct StepDecision {
  bool stop = false;  // after this step's save
  bool save = false;
  bool stage = false;  // copy the state; the copy is saved if the next step outlasts a stop request

  bool operator==(const StepDecision&) const = default;
};

/// Whether `step` is at or after stop_after. A resumed run may start after it.
bool has_reached_stop_after(const CheckpointRules& rules, std::int64_t step);

StepDecision decide(const CheckpointRules& rules, std::int64_t step, const RankVotes& votes);

/// One rank's clock for its votes.
class CheckpointClock {
 public:
  using Clock = std::chrono::steady_clock;

  CheckpointClock(const CheckpointRules& rules, Clock::time_point start) : rules_(rules), saved_(start) {}

  /// `busy`: an earlier save is being written.
  bool save_ready(Clock::time_point now, bool busy) const;
  /// Whether to stage a copy of the state (StepDecision::stage). Staging takes at most a hundredth of the
  /// run's time. Returns false if steps are so short (`step_seconds`) that one ends, and its state is saved,
  /// within mpirun's grace period.
  bool stage_ready(Clock::time_point now, bool busy, double step_seconds) const;
  void saved(Clock::time_point now) { saved_ = now; }
  void staged(Clock::time_point begin, Clock::time_point end);

 private:
  CheckpointRules rules_;
  Clock::time_point saved_;
  std::optional<Clock::time_point> staged_;
  Clock::duration stage_cost_{};
};

}  // namespace foretoken
