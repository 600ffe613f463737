#pragma once
// Units that several pipeline ranks hold (embedding, output matrix, a module that is used on several stages):
// their gradients are summed over the holders once a step, so that all optimizers make the same update from
// the same bits.
//
// A holder starts the sum, an all-reduce in the gradient buffer, as soon as its own data-parallel reduction
// of the unit is complete; on the last rank that is during the pipeline's cool-down. With a sharded optimizer
// each rank sums only its own part.
//
// Calls in one step: progress() repeatedly from its start, finish() after GradientReducer::finish().

#include <map>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/gradient_reducer.h"
#include "parallel/groups.h"

namespace foretoken {

class SharedWeights {
 public:
  /// Collective over the holders of each shared unit (Groups::holders). Throws DefectError if they do not
  /// hold the same shared tensors, or if their group is missing.
  SharedWeights(const Parameters& parameters, const ShardPlan& plan, const GradientReducer& reducer,
                const Groups& groups);

  /// Starts each sum whose bucket is reduced; returns immediately.
  void progress();
  /// Returns when the gradients of all shared units are summed; on a GPU, when the sums are enqueued.
  void finish();

 private:
  struct Sum {
    int bucket = 0;
    Communicator* holders = nullptr;
    Tensor gradient;
    Request request;
    std::int64_t started = 0;  // steps
  };

  const GradientReducer& reducer_;
  std::vector<Sum> sums_;   // those of one group in the same order on all of its ranks
  std::int64_t steps_ = 0;  // that are finished
};

/// Compares the bits of every parameter over its replicas: the dp ranks of its stage and, of a shared unit,
/// all holders. Collective over the world. A NumericalError on all ranks, naming tensor and ranks, where one
/// differs from what most have.
void check_replicas(Stream& stream, const Parameters& parameters, const Groups& groups);

}  // namespace foretoken
