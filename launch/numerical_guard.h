#pragma once
// What stands between a number that went wrong and the model: steps whose loss or gradient norm is not finite
// change nothing (the optimizer decides that on the device, parallel/optimizer.h) and are counted here;
// unusual ones may be computed again; state is checked between updates and before it is saved.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "io/metrics.h"
#include "launch/console.h"
#include "launch/session.h"
#include "launch/z_score.h"
#include "parallel/optimizer.h"
#include "parallel/state_digest.h"

namespace foretoken {

class NumericalGuard {
 public:
  /// Takes the digests' memory from the arena. All must outlive it.
  NumericalGuard(Arena& arena, Session& session, Optimizer& optimizer, const ShardPlan& plan,
                 Console& console);

  /// Steps that changed nothing; a checkpoint keeps both numbers.
  std::int64_t skipped() const { return skipped_; }
  std::int64_t skipped_in_a_row() const { return in_a_row_; }
  void restore(std::int64_t skipped, std::int64_t in_a_row);

  /// Of a state at `step` that was drawn, or loaded from files whose digests hold. Compares replicas.
  void begin(std::int64_t step);
  /// Before a step's update writes into the state, and after all that takes time.
  void before_update();
  /// `step` steps are finished, the last one's update is enqueued.
  void after_update(std::int64_t step);
  /// What this rank's memory check has found, for the step's exchange; empty where all is well. Waits.
  std::string memory_fault();
  /// A NumericalError on all ranks where any has a memory fault. Collective, called where the step's exchange
  /// said so.
  [[noreturn]] void throw_memory_fault(const std::string& own);
  /// Compares replicated weights (parallel/shared_weights.h) after `step` steps. Collective.
  void compare_replicas(std::int64_t step);
  /// Once the state was found to be changed: checkpoints after this step, the last one whose state was found
  /// whole, are not to be trusted. Nothing before that.
  std::optional<std::int64_t> suspect_after() const { return suspect_after_; }

  /// The scores of a step's loss and gradient norm among those before it.
  void score(StepMetrics& metrics) const;
  /// Whether the step is one to compute again before its update: train.replay_suspicious.
  bool wants_replay(const StepMetrics& metrics) const;
  /// Computes the step again and says whether it gives the same bits. `again` repeats the passes and the
  /// measurement of the norm; the second result stands. Collective.
  StepMetrics replay(std::int64_t step, const StepMetrics& first, const std::function<StepMetrics()>& again);
  /// Counts the step, and says of one that changed nothing what was not finite and where. A NumericalError on
  /// all ranks where more than train.skip_limit came in a row. Collective.
  void judge(std::int64_t step, StepMetrics& metrics);

  /// A NumericalError on all ranks where the state must not be saved: a number in it is not finite, memory
  /// has changed since the update, or replicas differ. Collective.
  void require_sound_state(std::int64_t step);

 private:
  struct Bits {
    std::vector<double> sums;
    std::vector<std::uint64_t> gradients;  // by bucket
  };
  Bits bits();
  void examine();
  std::string not_finite_here();
  /// "rank 1 (pp0 dp1): gradient of lm_head.weight; ...", on every rank.
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
  std::int64_t examined_ = 0;   // the same of the digest that memory_fault() reads
  std::int64_t verified_ = 0;   // the last step whose digest held, on this rank
  std::int64_t compared_ = -1;  // the last step whose replicas were the same
  std::optional<std::int64_t> suspect_after_;
};

}  // namespace foretoken
