#pragma once
// Each layer's share of a step's time, with forward and backward separate, for the partition and the
// simulation.

#include <cstdint>

#include "model/config.h"
#include "parallel/planning/partition.h"

namespace foretoken {

/// The properties of a step that determine its costs.
struct StepWork {
  std::int64_t sequence_length = 0;
  bool trains = true;  // false: forward only
  Recompute recompute = Recompute::none;
  bool frozen_trunk = false;
};

/// Costs per token, in the unit of time_of() (model/cost.h), with the heads on the stages of mtp.placement. A
/// block's backward costs two forwards, one for the input's gradient and one for the weights' gradients;
/// recompute "full" adds one forward. The three products with an output matrix all run in backward: logits,
/// the input's gradient and the weight's gradient (model/stage/predictor.h). Heads in turn run entirely in
/// backward. A frozen trunk has no backward. Detached heads skip one of the three products, except with
/// own_output, where the depth's network and matrix need all.
LayerCosts layer_costs(const ModelConfig& model, const MtpConfig& mtp, const StepWork& work);

}  // namespace foretoken
