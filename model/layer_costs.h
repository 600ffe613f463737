#pragma once
// Each layer's share of a step's time, with forward and backward separate, for the partition and the
// simulation.

#include <cstdint>

#include "model/config.h"
#include "parallel/pipeline/partition.h"

namespace foretoken {

/// Which parts of a step are computed.
struct StepWork {
  std::int64_t sequence_length = 0;
  bool trains = true;  // false: forward alone
  Recompute recompute = Recompute::none;
  bool frozen_trunk = false;
};

/// Costs per token, in the unit of time_of() (model/cost.h); the heads are placed as mtp.placement says. A
/// block's backward takes twice its forward, half of that for the input's gradient; recompute "full" adds one
/// forward. The products with an output matrix all run in backward: logits, the input's gradient and the
/// weight's gradient (model/stage/predictor.h). Heads in turn run in backward entirely. A frozen trunk has no
/// backward. Detached heads skip one product of their output matrix, except where a network and a matrix of
/// the depth's own need all three.
LayerCosts layer_costs(const ModelConfig& model, const MtpConfig& mtp, const StepWork& work);

}  // namespace foretoken
