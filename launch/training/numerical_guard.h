#pragma once
// Protects the model from numerical failures and from faults of memory. A step whose loss or gradient norm is
// not finite changes nothing (the optimizer decides that on the device, parallel/optimizer/optimizer.h) and
// is counted here. Unusual steps may be computed again. Between updates, and before a save, the guard checks
// that the state is unchanged and finite.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "io/report/metrics.h"
#include "launch/console/console.h"
#include "launch/session/session.h"
#include "launch/training/z_score.h"
#include "parallel/optimizer/optimizer.h"
#include "parallel/optimizer/state_digest.h"

namespace foretoken {

class NumericalGuard {
 public:
  /// Allocates the digests' memory from the arena. All arguments must outlive the guard.
  NumericalGuard(Arena& arena, Session& session, Optimizer& optimizer, const ShardPlan& plan,
                 Console& console);

  /// Steps that changed nothing; a checkpoint stores both numbers.
  std::int64_t skipped() const { return skipped_; }
  std::int64_t skipped_in_a_row() const { return in_a_row_; }
  void restore(std::int64_t skipped, std::int64_t in_a_row);

  /// Call this before the first step. The state at `step`, initialized or loaded from verified files, counts
  /// as verified. Compares replicas.
  void begin(std::int64_t step);
  /// Compares the state with its digest. Call this after a step's passes: the check covers the time up to the
  /// call. It may be called again before the update.
  void check_state();
  /// Call this right before a step's update writes to the state.
  void before_update();
  /// Call this when the update of step `step` is enqueued.
  void after_update(std::int64_t step);
  /// Message about changed memory that this rank's check found, for the step's exchange; empty if memory is
  /// unchanged. Waits for the check.
  std::string memory_fault();
  /// Throws a NumericalError on all ranks. Call this if the step's exchange reported a memory fault on any
  /// rank; `own` is this rank's message. Collective.
  [[noreturn]] void throw_memory_fault(const std::string& own);
  /// Compares replicated weights (parallel/optimizer/shared_weights.h) after `step` steps. Collective.
  void compare_replicas(std::int64_t step);
  /// Set once the state was found to be changed: the last step whose state was verified. Later checkpoints
  /// must not be trusted.
  std::optional<std::int64_t> suspect_after() const { return suspect_after_; }

  /// Sets the z-scores of a step's loss and gradient norm relative to earlier steps.
  void score(StepMetrics& metrics) const;
  /// Whether the step is to be computed again before its update: train.replay_suspicious.
  bool wants_replay(const StepMetrics& metrics) const;
  /// Computes the step again and reports whether the bits are equal. `again` repeats the passes and the
  /// measurement of the norm. Returns the second result, which is used. Collective.
  StepMetrics replay(std::int64_t step, const StepMetrics& first, const std::function<StepMetrics()>& again);
  /// Counts the step. If the step changed nothing, reports which numbers were not finite, and on which ranks.
  /// Throws a NumericalError on all ranks after more than train.skip_limit consecutive skipped steps.
  /// Collective.
  void count_skipped(std::int64_t step, StepMetrics& metrics);

  /// Throws a NumericalError on all ranks if the state must not be saved: a number in it is not finite,
  /// memory has changed since the update, or replicas differ. Collective.
  void require_sound_state(std::int64_t step);

 private:
  struct Bits {
    std::vector<double> sums;
    std::vector<std::int64_t> gradients;  // by bucket
  };
  Bits bits();
  std::string not_finite_here();
  /// Joins the messages `own` of all ranks that have one, and returns the text on every rank. Shows the first
  /// 8 ranks. Collective. Example: "rank 1 (pp0 dp1): gradient of lm_head.weight; ...".
  std::string gathered(const std::string& own);

  Session& session_;
  Optimizer& optimizer_;
  const ShardPlan& plan_;
  Console& console_;
  StateDigest digest_;
  ZScore losses_, norms_;
  std::int64_t skipped_ = 0;
  std::int64_t in_a_row_ = 0;
  std::int64_t digested_ = 0;   // the step after which the digest was taken
  std::int64_t examined_ = 0;   // the same for the digest that memory_fault() reads
  std::int64_t verified_ = 0;   // the last step whose digest was confirmed, on this rank
  std::int64_t compared_ = -1;  // the last step whose replicas were equal
  std::optional<std::int64_t> suspect_after_;
};

}  // namespace foretoken
