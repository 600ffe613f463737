#pragma once
// Sums gradients over data-parallel ranks while backward still runs: when all units of a bucket are final,
// its reduction starts. All-reduce; or, where the optimizer state is sharded, reduce-scatter, after which a
// rank has the sum of its own part of each bucket alone (the rest of the buffer is undefined).
//
// All dp ranks of a stage must start the collectives in one order. Units become final in the same order on
// each, as they run one program; the first step records that order without overlap, dp rank 0's is given to
// all, and later steps start the buckets in it whatever happens.
//
// One step: unit_ready() once for every unit, progress() now and then, finish().

#include <cstdint>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/shard_plan.h"

namespace foretoken {

class GradientReducer {
 public:
  /// Parameters, plan and communicator must outlive it.
  GradientReducer(const Parameters& parameters, const ShardPlan& plan, Communicator& dp);

  /// The gradient of units()[unit] is final. A DefectError where it was final before in this step.
  void unit_ready(int unit);
  /// Moves what is under way; returns at once.
  void progress();
  /// How many steps' sums of the bucket have been in the gradient buffer, this step's included once it is: on
  /// a GPU, for what is enqueued from then on.
  std::int64_t reductions(int bucket) const { return reductions_[static_cast<std::size_t>(bucket)]; }
  /// Returns when every bucket is reduced, on a GPU for what is enqueued from then on. A DefectError naming a
  /// unit that never became ready.
  void finish();

 private:
  void begin_step();
  void start_ready();
  void start(int bucket);
  void agree_on_order();

  const Parameters& parameters_;
  const ShardPlan& plan_;
  Communicator& dp_;
  std::vector<int> bucket_of_;  // by unit

  std::vector<std::int32_t> order_;  // in which buckets start
  bool order_known_ = false;
  std::vector<bool> unit_ready_;
  std::vector<int> missing_;  // units that are not ready, by bucket
  std::size_t started_ = 0;   // buckets of order_ that are
  std::vector<Request> requests_;
  std::vector<std::int64_t> reductions_;  // by bucket
  bool finished_ = false;                 // the next unit begins a step
};

}  // namespace foretoken
