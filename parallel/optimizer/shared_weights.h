#pragma once
// Units that several pipeline ranks hold (embedding, output matrix, a module used on several stages). Their
// gradients are summed over the holders once per step, so all optimizers compute the same update from the
// same bits.
//
// A holder starts the sum, an all-reduce in the gradient buffer, as soon as its data-parallel reduction of
// the unit is complete. On the last rank this is during the pipeline's cool-down. With a sharded optimizer
// each rank sums only the part that it owns.
//
// Calls in one step: progress() repeatedly from the start of the step, finish() after
// GradientReducer::finish().

#include <map>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/comm/groups.h"
#include "parallel/optimizer/gradient_reducer.h"

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
    std::int64_t started = 0;  // number of steps in which the sum has started
  };

  const GradientReducer& reducer_;
  std::vector<Sum> sums_;   // sums of one group are in the same order on all its ranks
  std::int64_t steps_ = 0;  // number of finished steps
};

/// Compares the bits of every parameter over its replicas: the dp ranks of its stage and, for a shared unit,
/// all holders. Collective over the world. If a replica differs from the majority, throws NumericalError on
/// all ranks, naming tensor and ranks.
void check_replicas(Stream& stream, const Parameters& parameters, const Groups& groups);

}  // namespace foretoken
