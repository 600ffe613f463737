#pragma once
// One rank's training run: the loop over steps, with checkpoints, evaluations and reports.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint_writer.h"
#include "io/checkpoint/run_directory.h"
#include "io/datasets/batch.h"
#include "io/report/metrics.h"
#include "launch/commands/train.h"
#include "launch/console/console.h"
#include "launch/console/stop_notice.h"
#include "launch/training/checkpoint_policy.h"
#include "launch/training/evaluation.h"
#include "launch/training/gradient_pass.h"
#include "launch/training/numerical_guard.h"
#include "launch/training/run_folder.h"
#include "launch/training/session.h"
#include "parallel/optimizer/gradient_reducer.h"
#include "parallel/optimizer/learning_rate.h"
#include "parallel/optimizer/optimizer.h"
#include "parallel/optimizer/shared_weights.h"

namespace foretoken {

/// Callbacks inside a step, called on every rank. Fault injection uses them.
struct TrainingHooks {
  using Hook = std::function<void(std::int64_t step, Session& session, Optimizer& optimizer)>;
  Hook gradients_final;  // after every pass, before the norm is measured
  Hook updated;          // after the update and after its digest is taken
};

class Training {
 public:
  /// Opens the data, builds or loads the model and creates the run's directory. Collective.
  Training(MpiCommunicator& world, const Config& config, const TrainArguments& arguments, RunFolder& folder,
           Console& console, StopNotice& notice, TrainingHooks hooks = {});
  ~Training();

  /// Runs steps until the end, a stop signal or arguments.stop_after. Returns the same code on every rank.
  ExitCode run();

  const RunDirectory& directory() const { return *run_; }

 private:
  ExitCode run_steps();
  ExitCode end_stopped();
  bool any_rank_signalled();
  /// If the signal came in the middle of a long step: publishes the copy that ranks had staged before,
  /// provided that all agree on its step.
  void settle_staged();
  void report_end(double seconds);
  void start_fresh();
  void resume();
  void open_run();
  void make_ready_to_publish();
  StepMetrics step();
  /// Runs forward, backward and reduction, and measures the norm.
  void run_pass(bool diagnose);
  /// Measures heads at every depth, before a pass that draws some of them.
  HeadsMetrics measure_heads();
  StepMetrics report(bool diagnose, double lr);
  CheckpointInfo checkpoint_info();
  /// Waits for all ranks, with the time limit of a save.
  void meet_after_save();
  /// Waits for the save on all ranks.
  void finish_save();
  void save();
  /// Stages a copy of the state for StopNotice::while_in_step().
  void stage();
  /// Called after a numerical fault: lets a running save end, marks checkpoints that are not to be trusted,
  /// and reports which one remains.
  void keep_last_good(const char* fault) noexcept;
  void mark_suspects(const char* fault);
  void evaluate();

  Config config_;
  TrainArguments arguments_;
  RunFolder& folder_;
  MpiCommunicator& world_;
  Console& console_;
  StopNotice& notice_;
  TrainingHooks hooks_;
  TokenDataset dataset_;
  Session session_;
  Arena arena_;
  ShardPlan plan_;
  GradientReducer reducer_;
  SharedWeights shared_;
  Optimizer optimizer_;
  NumericalGuard guard_;
  LearningRate schedule_;
  std::optional<GradientPass> pass_;
  std::optional<TokenDataset> validation_dataset_;
  std::optional<Evaluation> validation_;
  std::optional<BatchLoader> loader_;
  std::optional<RunDirectory> run_;
  std::optional<MetricsSink> metrics_;
  std::optional<CheckpointWriter> writer_;
  CheckpointRules rules_;
  CheckpointClock clock_;
  CheckpointClock::Clock::time_point step_start_;

  std::int64_t step_ = 0;     // finished steps
  std::int64_t samples_ = 0;  // consumed
  std::int64_t tokens_ = 0;   // tokens seen
  std::int64_t saved_step_ = -1;
  RankVotes votes_;              // of the last step, equal on every rank
  double seconds_per_step_ = 0;  // running mean, for the remaining time
};

}  // namespace foretoken
