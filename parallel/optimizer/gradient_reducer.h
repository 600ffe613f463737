#pragma once
// Sums gradients over data-parallel ranks while backward runs: when all units of a bucket are final, its
// reduction starts. The reduction is an all-reduce, or a reduce-scatter if the optimizer state is sharded.
// After a reduce-scatter a rank has only the sum of its own part of each bucket (the rest of the buffer is
// undefined).
//
// All dp ranks of a stage must start the collectives in the same order. Units become final in the same order
// on each rank, because all run the same program. The first step runs without overlap and records the order;
// dp rank 0 broadcasts its order, and later steps always start the buckets in that order.
//
// Calls in one step: unit_ready() once for every unit, progress() repeatedly, finish().

#include <cstdint>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/optimizer/shard_plan.h"

namespace foretoken {

class GradientReducer {
 public:
  /// Parameters, plan and communicator must outlive it.
  GradientReducer(const Parameters& parameters, const ShardPlan& plan, Communicator& dp);

  /// Reports that the gradient of units()[unit] is final. Throws DefectError on a second call for the unit in
  /// a step.
  void unit_ready(int unit);
  /// Progresses pending reductions; returns immediately.
  void progress();
  /// The number of steps in which the bucket's reduction has completed; 0 for a frozen bucket. The count
  /// rises in progress() or finish(); with one dp rank, in the unit_ready() call for the bucket's last unit.
  /// On a GPU the reduced gradient is valid for work enqueued after this call.
  std::int64_t reductions(int bucket) const { return reductions_[static_cast<std::size_t>(bucket)]; }
  /// Returns when every bucket is reduced; on a GPU, when work enqueued afterwards reads reduced gradients.
  /// Throws DefectError, naming the unit, if a unit did not become ready.
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

  std::vector<std::int32_t> order_;  // order in which buckets start
  bool order_known_ = false;
  std::vector<bool> unit_ready_;
  std::vector<int> missing_;  // by bucket: number of units that are not ready
  std::size_t started_ = 0;   // number of buckets of order_ that have started
  std::vector<Request> requests_;
  std::vector<std::int64_t> reductions_;  // by bucket
  bool finished_ = false;                 // the next unit_ready() starts a new step
};

}  // namespace foretoken
