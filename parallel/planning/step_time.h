#pragma once
// Predicts how long a training step takes, and where its time goes, from the times of stages and the sizes of
// messages. It simulates what a rank does (launch/training/gradient_pass.h, parallel/optimizer): the pipeline
// program; under it the data-parallel reduction of each bucket as soon as its gradients are final, one bucket
// after another; then for a shared bucket the sum over its holders; after all of them the gradient norm, an
// all-reduce of the norm over all ranks, and AdamW bucket by bucket, while updated buckets of a sharded
// optimizer are gathered.
//
// What is sent at the same time over one connection shares its bandwidth equally: over the connection of a
// rank inside its node, or over the network adapters of a node. Messages of one rank in one direction are
// sent one after another, as are the collectives of one group. Communication takes no compute time unless
// Links::in_background is false; then a rank receives a message when it needs it, reduces its gradients after
// its program, and gathers weights after its update. All replicas run at the same time, so one pipeline is
// simulated: the one that crosses the most nodes. Other replicas' messages on its nodes are left out; if
// pipelines fill whole nodes or nodes whole pipelines, there are none between nodes.

#include <string_view>
#include <vector>

#include "parallel/pipeline/program.h"
#include "parallel/pipeline/validate_program.h"
#include "parallel/planning/links.h"
#include "parallel/planning/simulate.h"
#include "parallel/planning/stage_durations.h"

namespace foretoken {

/// Bytes of the all-reduce of the gradient norm.
inline constexpr double norm_bytes = 8;

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
  std::vector<double> boundary_bytes;  // [stages − 1], of one message: the activation from stage s to s + 1
                                       // or its gradient, which has the same size; empty: no cost
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

  double communication() const { return exposed_messages + exposed_reductions + exposed_gathers; }
  double total() const { return compute + bubble + communication() + optimizer + host; }
};

struct StepTime {
  double total = 0;               // s
  StepShares step;                // mean over the ranks
  std::vector<StepShares> ranks;  // [pp]
};

/// A program prepared for predictions with any costs.
class StepSimulation {
 public:
  StepSimulation(const Program& lowered, const ProgramFootprint& footprint);

  /// Throws DefectError unless `costs` has every stage, boundary and rank of the program.
  StepTime predict(const StepCosts& costs, const Links& links) const;
  /// predict(costs, links).total, in a third of the time.
  double seconds(const StepCosts& costs, const Links& links) const;
  /// The compute actions with their times in the step.
  SimulatedTimeline timeline(const StepCosts& costs, const Links& links) const;

 private:
  friend class StepRun;
  struct SentMessage {
    Simulation::Place sender = 0;
    Simulation::Place receiver = 0;
    Action send;
    int from = 0;
    int to = 0;

    /// The stage boundary that it crosses: index of StepCosts::boundary_bytes.
    std::size_t boundary() const {
      return static_cast<std::size_t>(send.stage - (send.kind == ActionKind::send_gradient ? 1 : 0));
    }
  };

  PipelineShape shape_;
  Simulation program_;
  std::vector<std::vector<std::size_t>> steps_of_;  // by rank: indices of program_.steps()
  std::vector<SentMessage> messages_;
  std::vector<std::size_t> awaited_;               // by element of program_.waits(): its message
  std::vector<std::size_t> first_at_, at_places_;  // messages that have an end at a place, by place
  std::vector<std::size_t> last_backward_;         // by stage: index of program_.steps()
};

/// Predicts the step of a schedule of this shape. If there are many microbatches, simulates two steps with
/// fewer microbatches and extends their difference: once the pipeline has filled, each further group of pp
/// microbatches takes about the same time, and at least the compute of the busiest rank. Tested: within 1 %
/// of the whole step. A prediction is never below least_program_time() (parallel/planning/step_bound.h).
/// Throws UsageError like make_program() (parallel/pipeline/schedules.h).
class SchedulePrediction {
 public:
  SchedulePrediction(std::string_view schedule, const PipelineShape& shape);

  StepTime predict(const StepCosts& costs, const Links& links) const;
  double seconds(const StepCosts& costs, const Links& links) const;

 private:
  template <class Seconds>
  double extended(const StepCosts& costs, const Seconds& seconds) const;

  PipelineShape shape_;
  std::vector<StepSimulation> simulations_;  // one, or a shorter and a longer one
  double left_out_ = 0;  // microbatches not simulated, as a multiple of the two steps' difference
};

}  // namespace foretoken
