#pragma once
// What a step computes.

namespace foretoken {

/// Losses are always summed. A step in forward alone sums them in forward, a step with gradients in backward.
struct StepRequest {
  bool gradients = false;        // backward follows forward and computes the gradients of the parameters
  bool acceptance = false;       // counts drafts: StepSums::drafts and accepted
  bool trunk_gradients = false;  // StepSums::squares and products; needs `gradients` and measures_gradients()

  static StepRequest training() { return {.gradients = true}; }
  static StepRequest evaluation() { return {.acceptance = true}; }
};

}  // namespace foretoken
