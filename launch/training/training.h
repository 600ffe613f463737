#pragma once
// The loop over a run's steps on one rank, with checkpoints, evaluations and reports.

#include <functional>
#include <memory>
#include <string>

#include "io/report/metrics_outputs.h"
#include "launch/training/checkpoint_policy.h"
#include "launch/training/run_report.h"
#include "launch/training/training_parts.h"
#include "parallel/optimizer/learning_rate.h"

namespace foretoken {

/// Callbacks inside a step, called on every rank. Fault injection uses them.
struct TrainingHooks {
  using Hook = std::function<void(std::int64_t step, Session& session, Optimizer& optimizer)>;
  Hook gradients_final;  // after every pass, before the norm is measured
  Hook updated;          // after the update and after its digest is taken
};

class Training {
 public:
  /// `parts` come from open_training().
  Training(std::unique_ptr<TrainingParts> parts, const CheckpointRules& rules, TrainingHooks hooks = {});

  /// Runs steps until the end, a stop signal or rules.stop_after. Returns the same code on every rank.
  ExitCode run();

 private:
  ExitCode run_steps();
  /// Saves, and waits until the save is complete.
  ExitCode stop();
  bool any_rank_signalled();
  /// Publishes the copy that the ranks had staged before, if the signal arrived in the middle of a long step
  /// and all ranks staged the same step.
  void publish_staged();
  /// Writes the end metrics and prints the closing block. Collective.
  void end(ExitCode code, double seconds);
  StepMetrics step();
  bool measures_times(std::int64_t step) const;
  /// Runs forward, backward and reduction, and measures the norm.
  void run_pass(bool diagnose);
  /// Measures the heads of all depths, before a pass that trains only some of them.
  HeadsMetrics measure_heads();
  /// Exchanges the step's sums and the ranks' votes. Collective.
  StepMetrics exchange_metrics(bool diagnose, double lr);
  CheckpointInfo checkpoint_info();
  /// Waits for all ranks, with the time limit of a save.
  void meet_after_save();
  /// Waits for the save on all ranks.
  void finish_save();
  void save();
  /// Stages a copy of the state for StopNotice::while_in_step().
  void stage();
  /// Called after a numerical failure: waits for a running save, marks checkpoints that must not be trusted,
  /// and reports the newest one that remains.
  void keep_last_good(const char* reason) noexcept;
  void mark_suspects(const char* reason);
  void evaluate();

  std::unique_ptr<TrainingParts> parts_;
  // References into *parts_.
  const Config& config_;
  MpiCommunicator& world_;
  Console& console_;
  Session& session_;
  Optimizer& optimizer_;
  NumericalGuard& guard_;
  GradientPass& pass_;
  TrainingProgress& progress_;
  RunFiles& files_;
  std::optional<MetricsOutputs>& metrics_;
  CheckpointWriter& writer_;

  TrainingHooks hooks_;
  LearningRate schedule_;
  RunReport report_;
  CheckpointRules rules_;
  CheckpointClock clock_;
  CheckpointClock::Clock::time_point step_start_;
  std::int64_t first_step_;        // steps finished before this launch
  RankVotes votes_;                // votes of the last step, equal on every rank
  double seconds_per_step_ = 0;    // running mean, for the remaining time
  double checkpoint_seconds_ = 0;  // spent waiting for saves since the last report of it
};

}  // namespace foretoken
