#pragma once
// Decides when a run saves, stages a copy of its state, and stops. All ranks decide alike: at the end of a
// step each votes by its clock, its disk and its signals, the votes are summed over the ranks, and decide()
// is a pure function of the sums.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace foretoken {

/// The rules, equal on every rank.
struct CheckpointRules {
  std::int64_t every_steps = 0;           // 0: not by steps
  std::chrono::duration<double> every{};  // 0: not by time
  std::int64_t last_step = 0;             // of the run; always saved
  std::int64_t stop_after = 0;            // stop with a checkpoint after this step; 0: do not
};

/// Console text at the start of a run: how to stop it, and how much work a kill loses at most.
std::string stop_help(const CheckpointRules& rules);

/// Number of ranks with each vote at the end of a step.
struct RankVotes {
  std::int64_t ranks = 1;  // of the job
  std::int64_t signalled = 0;
  std::int64_t save_ready = 0;   // the interval has passed, and no earlier save is being written
  std::int64_t stage_ready = 0;  // staging a copy is worth its time now
};

struct StepDecision {
  bool stop = false;  // after this step's save
  bool save = false;
  bool stage = false;  // copy the state, to be written if a stop request cannot wait for the next step

  bool operator==(const StepDecision&) const = default;
};

/// Whether `step` is at or after the step that the run is to stop at. A resumed run may already be past it.
bool is_last_asked_for(const CheckpointRules& rules, std::int64_t step);

StepDecision decide(const CheckpointRules& rules, std::int64_t step, const RankVotes& votes);

/// One rank's clock for its votes.
class CheckpointClock {
 public:
  using Clock = std::chrono::steady_clock;

  CheckpointClock(const CheckpointRules& rules, Clock::time_point start) : rules_(rules), saved_(start) {}

  /// `busy`: an earlier save is being written.
  bool save_ready(Clock::time_point now, bool busy) const;
  /// Staging takes at most a hundredth of the time. No copy is made if the next step, of `step_seconds`, will
  /// end within mpirun's grace period.
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
