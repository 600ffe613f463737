#pragma once
// When a run saves, keeps a copy of its state ready, and stops. Ranks decide alike: each says at the end of a
// step what it is ready for (its clock, its disk, its signals), the answers are summed over the ranks, and
// decide() is a pure function of the sums.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace foretoken {

/// The rules, the same on every rank.
struct CheckpointRules {
  std::int64_t every_steps = 0;           // 0: none by steps
  std::chrono::duration<double> every{};  // 0: none by time
  std::int64_t last_step = 0;             // of the run: always saved
  std::int64_t stop_after = 0;            // stop with a checkpoint after this step; 0: no such step
};

/// For a person at the start of a run: how to stop it, and how much work a kill loses at most.
std::string stop_help(const CheckpointRules& rules);

/// How many ranks say so, at the end of one step.
struct RankVotes {
  std::int64_t ranks = 1;  // of the job
  std::int64_t signalled = 0;
  std::int64_t save_ready = 0;   // the time has passed, and no earlier save is being written
  std::int64_t stage_ready = 0;  // a copy is worth its time now
};

struct StepDecision {
  bool stop = false;  // after this step's save
  bool save = false;
  bool stage = false;  // copy the state, to be written if a stop request cannot wait for the next step

  bool operator==(const StepDecision&) const = default;
};

/// Whether the run is to stop after `step` or has passed that step, as a run may that is resumed.
bool is_last_asked_for(const CheckpointRules& rules, std::int64_t step);

StepDecision decide(const CheckpointRules& rules, std::int64_t step, const RankVotes& votes);

/// One rank's clock for the votes.
class CheckpointClock {
 public:
  using Clock = std::chrono::steady_clock;

  CheckpointClock(const CheckpointRules& rules, Clock::time_point start) : rules_(rules), saved_(start) {}

  /// `busy`: an earlier save is being written.
  bool save_ready(Clock::time_point now, bool busy) const;
  /// Copies take at most a hundredth of the time, and none is made where the next step will end within the
  /// grace that mpirun leaves (a step of `step_seconds`).
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
