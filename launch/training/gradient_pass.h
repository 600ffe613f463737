#pragma once
// One step's forward and backward passes on this rank, and the reduction of its gradients. A step's inputs
// are prepared once and may be run several times; on a deterministic device every run gives the same bits.

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "io/datasets/batch.h"
#include "launch/session/session.h"
#include "model/depth_sampler.h"
#include "parallel/optimizer/gradient_reducer.h"
#include "parallel/optimizer/shared_weights.h"
#include "parallel/pipeline/executor.h"

namespace foretoken {

class GradientPass {
 public:
  /// All arguments must outlive the GradientPass.
  GradientPass(Session& session, GradientReducer& reducer, SharedWeights& shared);
  ~GradientPass();

  /// Valid targets by depth over this rank's rows. Zero except on ranks with the main head's stage.
  struct Counts {
    std::vector<std::int64_t> all;
    std::vector<std::int64_t> trained;  // counts only microbatches that train the depth
  };

  /// Prepares the step whose rows are in `batches`; its first row is global sample `sample`. If depths are
  /// sampled, draws the depths that each microbatch trains. The batches must stay valid until the step's last
  /// pass. Collective over data-parallel ranks.
  void prepare(std::span<const Batch> batches, std::int64_t sample);
  const Counts& counts() const { return counts_; }

  /// Runs forward and backward over the step's depths, and the reduction. Gradients are then final; on a GPU,
  /// for work that is enqueued later. `diagnose`: also measures the heads (RankModel::diagnosis()).
  void run(bool diagnose);
  /// Call this only if samples_depths(). Runs forward and backward over every depth, for measurement only.
  /// Nothing is reduced and the gradients are left undefined, so run() must follow. Returns this rank's sums
  /// (Session::read_sums()).
  std::vector<double> measure();

  bool samples_depths() const { return sampler_.has_value(); }
  /// Computes the objective of a step from its global sums and counts. A sampled depth's loss is divided by
  /// the depth's probability, as its gradient is. The expected value over draws is therefore the objective of
  /// all depths.
  Objective::Losses losses(std::span<const double> sums, const Counts& global) const;

 private:
  class Overlap;
  void execute(std::span<const MicrobatchInput> inputs, std::vector<double> scales, bool diagnose,
               bool reduce);

  Session& session_;
  GradientReducer& reducer_;
  SharedWeights& shared_;
  std::unique_ptr<Overlap> overlap_;
  Executor executor_;
  std::optional<DepthSampler> sampler_;  // set if depths are sampled
  std::vector<MicrobatchInput> inputs_;
  std::vector<double> scales_;  // [D + 1] of all depths, not divided by probabilities
  Counts counts_;
};

}  // namespace foretoken
