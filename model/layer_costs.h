#pragma once
// What the layers take of a step's time, forward and backward apart, for the partition and the simulation.

#include <cstdint>

#include "model/config.h"
#include "parallel/partition.h"

namespace foretoken {

/// What is computed of a step.
struct StepWork {
  std::int64_t sequence_length = 0;
  bool trains = true;  // else forward alone
  Recompute recompute = Recompute::none;
  bool frozen_trunk = false;
};

/// Per token, in the unit of time_of() (model/cost.h), with heads where mtp.placement has them. Of a block
/// backward takes twice the forward, half of that for the input's gradient; recompute "full" adds a forward.
/// Output matrices are multiplied with in backward alone, for logits, the input's gradient and the weight's
/// (model/predictor.h), and heads in turn run there as a whole. A frozen trunk has no backward, and heads
/// that are detached leave a product out, unless a network and a matrix of their own both need it.
LayerCosts layer_costs(const ModelConfig& model, const MtpConfig& mtp, const StepWork& work);

}  // namespace foretoken
