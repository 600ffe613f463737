#pragma once
// One microbatch on one stage: the arguments that forward, backward and measurements share.

#include <span>

#include "model/layer_context.h"
#include "model/step_request.h"
#include "model/step_sums.h"

namespace foretoken {

struct StagePass {
  LayerContext layers;
  const MicrobatchInput& input;
  int slot = 0;         // the microbatch's buffers on the stage
  StepRequest request;  // the step's request, without what another pass of the step computes
  const StepSums& sums;

  Stream& stream() const { return layers.stream; }
};

struct BackwardPass {
  StagePass pass;
  Halves halves;                            // the halves to run
  std::span<const double> gradient_scales;  // [D + 1] weightₖ / valid targets of depth k
};

}  // namespace foretoken
