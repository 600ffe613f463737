#pragma once
// Predicts how long a training step takes, and where its time goes, from the times of stages and the sizes of
// messages. It simulates what a rank does (launch/training/gradient_pass.h, parallel/optimizer): the pipeline
// program; under it the data-parallel reduction of each bucket as soon as its gradients are final, one bucket
// after another; then for a shared bucket the sum over its holders; after all of them the gradient norm, an
// all-reduce of the norm over all ranks, and AdamW bucket by bucket, while updated buckets of a sharded
// optimizer are gathered. All replicas run at the same time, so one pipeline is simulated.

#include <string_view>
#include <vector>

#include "parallel/pipeline/links.h"
#include "parallel/pipeline/program.h"
#include "parallel/pipeline/stage_durations.h"

namespace foretoken {

/// One bucket of a rank's parameters (parallel/optimizer/shard_plan.h). Times are in seconds.
struct BucketCosts {
  /// The bucket's gradients are final when this fraction of the stage's backward (or its weight half) of the
  /// last microbatch has run. Backward starts at the end of a stage, so the bucket of its last layers is
  /// final first.
  int stage = 0;
  double final_after = 1;
  double gradient_bytes = 0;  // whole bucket; 0: frozen, neither reduced nor updated
  double weight_bytes = 0;    // whole bucket, gathered if the optimizer is sharded
  double update = 0;          // AdamW on this rank's part
  /// If the bucket is shared: the pipeline ranks that hold it, ascending. Each of them lists the bucket, with
  /// the same gradient_bytes.
  std::vector<int> holders;
};

struct RankCosts {
  std::vector<BucketCosts> buckets;
  double norm = 0;  // s, of this rank's part of the gradient norm, without its all-reduce
};

struct StepCosts {
  std::vector<StageDurations> stages;  // [stages], s of one microbatch
  std::vector<double> boundary_bytes;  // [stages − 1], of the activation from stage s to s + 1, and of its
                                       // gradient; empty: messages cost nothing
  std::vector<RankCosts> ranks;        // [pp]; empty: no reductions and no optimizer
  int dp = 1;
  bool sharded_optimizer = false;  // buckets are reduce-scattered and gathered, not all-reduced
  double host = 0;                 // s of the rest of a step, such as reading data and exchanging metrics
};

/// The parts of a step's time; their sum is the step's time. A part is exposed if it makes the step longer:
/// it is the difference between the times of the step with and without it. Messages are added first, then
/// reductions with the sums over holders, then the all-reduce of the norm and the gathers.
struct StepShares {
  double compute = 0;           // forward and backward
  double bubble = 0;            // waiting for the compute of other ranks
  double exposed_messages = 0;  // the same for all ranks, as are the next two
  double exposed_reductions = 0;
  double exposed_gathers = 0;
  double optimizer = 0;  // norm and AdamW
  double host = 0;

  double total() const {
    return compute + bubble + exposed_messages + exposed_reductions + exposed_gathers + optimizer + host;
  }
};

struct StepTime {
  double total = 0;               // s
  StepShares step;                // mean over the ranks
  std::vector<StepShares> ranks;  // [pp]
};

/// A schedule prepared for predictions with any costs.
class StepSimulation {
 public:
  /// Throws UsageError like make_program() (parallel/pipeline/schedules.h).
  StepSimulation(std::string_view schedule, const PipelineShape& shape);

  /// Throws DefectError unless `costs` has every stage, boundary and rank of the program.
  StepTime predict(const StepCosts& costs, const Links& links) const;
  /// predict(costs, links).total, in less time.
  double seconds(const StepCosts& costs, const Links& links) const;

 private:
  PipelineShape shape_;
  Program lowered_;
};

}  // namespace foretoken
