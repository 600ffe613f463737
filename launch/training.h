#pragma once
// One rank's training run: the loop over steps and all that hangs on it.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/batch.h"
#include "io/checkpoint_writer.h"
#include "io/metrics.h"
#include "io/run_directory.h"
#include "launch/checkpoint_policy.h"
#include "launch/console.h"
#include "launch/evaluation.h"
#include "launch/run_folder.h"
#include "launch/session.h"
#include "launch/stop_notice.h"
#include "launch/train.h"
#include "model/depth_sampler.h"
#include "parallel/executor.h"
#include "parallel/gradient_reducer.h"
#include "parallel/learning_rate.h"
#include "parallel/optimizer.h"
#include "parallel/shared_weights.h"

namespace foretoken {

class Training {
 public:
  /// Opens the data, builds or loads the model and makes the run's directory. Collective.
  Training(MpiCommunicator& world, const Config& config, const TrainArguments& arguments, RunFolder& folder,
           Console& console, StopNotice& notice);
  ~Training();

  /// Steps until the end, a stop signal or arguments.stop_after. Every rank returns the same code.
  ExitCode run();

  const RunDirectory& directory() const { return *run_; }

 private:
  class Overlap;

  ExitCode run_steps();
  ExitCode end_stopped();
  bool any_rank_signalled();
  /// Where the signal came in the middle of a long step, what ranks had staged before it: published, if they
  /// agree on it.
  void settle_staged();
  void report_end(double seconds);
  void start_fresh();
  void resume();
  void open_run();
  void make_ready_to_publish();
  StepMetrics step();
  /// Forward, backward and reduction; returns this rank's counts of valid targets of the depths that were
  /// trained, none but on the main head's stage.
  std::vector<std::int64_t> accumulate_gradients(bool diagnose);
  StepMetrics report(std::span<const std::int64_t> counts, bool diagnose, double lr);
  CheckpointInfo checkpoint_info();
  /// Waits until all ranks are here, which may take what a save may take.
  void meet_after_save();
  /// Waits for the save, on all ranks.
  void finish_save();
  void save();
  /// A copy of the state for StopNotice::while_in_step().
  void stage();
  void evaluate();

  Config config_;
  TrainArguments arguments_;
  RunFolder& folder_;
  MpiCommunicator& world_;
  Console& console_;
  StopNotice& notice_;
  TokenDataset dataset_;
  Session session_;
  Arena arena_;
  ShardPlan plan_;
  GradientReducer reducer_;
  SharedWeights shared_;
  Optimizer optimizer_;
  LearningRate schedule_;
  std::unique_ptr<Overlap> overlap_;
  std::optional<Executor> executor_;
  std::optional<TokenDataset> validation_dataset_;
  std::optional<Evaluation> validation_;
  std::optional<BatchLoader> loader_;
  std::optional<DepthSampler> sampler_;  // where depths are sampled
  std::optional<RunDirectory> run_;
  std::optional<MetricsSink> metrics_;
  std::optional<CheckpointWriter> writer_;
  CheckpointRules rules_;
  CheckpointClock clock_;
  CheckpointClock::Clock::time_point step_start_;

  std::int64_t step_ = 0;     // finished steps
  std::int64_t samples_ = 0;  // consumed
  std::int64_t tokens_ = 0;   // seen
  std::int64_t saved_step_ = -1;
  RankVotes votes_;              // of the last step, the same on every rank
  double seconds_per_step_ = 0;  // running mean, for the time left
};

}  // namespace foretoken
