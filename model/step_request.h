#pragma once
// The quantities that a step computes.

namespace foretoken {

/// Every step sums losses: in backward if it computes gradients, otherwise in forward.
struct StepRequest {
  bool gradients = false;        // backward follows forward and computes the gradients of the parameters
  bool acceptance = false;       // counts drafts: StepSums::drafts and accepted
  bool trunk_gradients = false;  // StepSums::squares, products; requires `gradients`, measures_gradients()

  static StepRequest training() { return {.gradients = true}; }
  static StepRequest evaluation() { return {.acceptance = true}; }
};

}  // namespace foretoken
