#pragma once
// The objects of one rank's training run.

#include <cstdint>
#include <memory>
#include <optional>

#include "io/datasets/batch.h"
#include "launch/config/train_arguments.h"
#include "launch/session/evaluation.h"
#include "launch/session/session.h"
#include "launch/training/checkpoint_policy.h"
#include "launch/training/gradient_pass.h"
#include "launch/training/numerical_guard.h"
#include "launch/training/run_files.h"
#include "parallel/optimizer/gradient_reducer.h"
#include "parallel/optimizer/optimizer.h"
#include "parallel/optimizer/shared_weights.h"

namespace foretoken {

/// The data that a run reads.
struct TrainingData {
  /// Throws an error unless all ranks read the same data and the model's vocabulary covers it. Collective.
  TrainingData(const Config& config, MpiCommunicator& world, Console& console);

  TokenDataset training;
  std::optional<TokenDataset> validation;
};

/// The progress of a run.
struct TrainingProgress {
  std::int64_t step = 0;         // finished steps
  std::int64_t samples = 0;      // consumed
  std::int64_t tokens = 0;       // seen
  std::int64_t saved_step = -1;  // step of the newest checkpoint; -1: none
};

/// Members refer to earlier ones.
struct TrainingParts {
  /// Allocates the run's memory. Parameters and moments are not initialized. Collective.
  TrainingParts(MpiCommunicator& ranks, SessionPlan session_plan, std::unique_ptr<TrainingData> opened,
                Console& lines);

  MpiCommunicator& world;
  Console& console;
  std::unique_ptr<TrainingData> data;
  Session session;
  Arena arena;
  ShardPlan shards;
  GradientReducer reducer;
  SharedWeights shared;
  Optimizer optimizer;
  NumericalGuard guard;
  GradientPass pass;
  std::optional<Evaluation> validation;

  TrainingProgress progress;
  std::unique_ptr<RunFiles> files;
  std::optional<BatchLoader> loader;  // from progress.samples on

  const Config& config() const { return session.config(); }
};

/// Opens the data, prints the start-up table, builds the model, initializes or loads it, and opens the run's
/// folder. The run is then ready for its next step. All arguments must outlive the result. Collective.
std::unique_ptr<TrainingParts> open_training(MpiCommunicator& world, const Config& config,
                                             const TrainArguments& arguments, RunFolder& folder,
                                             Console& console, StopNotice& notice);

/// The rules of when the run saves and stops.
CheckpointRules checkpoint_rules(const Config& config, const TrainArguments& arguments);

}  // namespace foretoken
