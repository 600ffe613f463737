#pragma once
// Units that the first and the last pipeline rank both hold (embedding, tied head): their gradients are
// summed over both sides once a step, so that both optimizers make the same update from the same bits.
//
// A side sends its gradient as soon as its own data-parallel reduction of it is done; on the last rank that
// is while the pipeline still cools down. With a sharded optimizer only the own part goes over. Each side
// adds what it received to its own: a + b and b + a have the same bits.
//
// One step: progress() now and then from its beginning, finish() after GradientReducer::finish().

#include <vector>

#include "parallel/communicator.h"
#include "parallel/gradient_reducer.h"
#include "parallel/groups.h"
#include "runtime/stream.h"

namespace foretoken {

class SharedWeights {
 public:
  /// Collective over the ends, if this rank is one (Groups::ends). Takes staging from the arena. A
  /// DefectError where the two sides do not hold the same shared tensors, or a shared unit has no other side.
  SharedWeights(Arena& arena, const Parameters& parameters, const ShardPlan& plan,
                const GradientReducer& reducer, Communicator* ends);

  /// Starts receives at once (on a GPU with the sends), and each send when its bucket is reduced; returns at
  /// once.
  void progress();
  /// Returns when the gradients of all shared units are summed, or on a GPU enqueued to be.
  void finish(Stream& stream);

 private:
  struct Exchange {
    int bucket = 0;
    Tensor own;     // of the gradient buffer
    Tensor theirs;  // staging
    Request send;
    Request receive;
    std::int64_t sent = 0;  // steps
  };

  void require_same_units(const Parameters& parameters) const;

  const GradientReducer& reducer_;
  Communicator* ends_;
  std::vector<Exchange> exchanges_;
  std::int64_t steps_ = 0;  // that are finished
  bool receiving_ = false;
};

/// Compares the bits of every parameter over its replicas: the dp ranks of its stage and, of a shared unit,
/// both sides. Collective over the world. A NumericalError on all ranks, naming tensor and ranks, where one
/// differs from what most have.
void check_replicas(Stream& stream, const Parameters& parameters, const Groups& groups);

}  // namespace foretoken
