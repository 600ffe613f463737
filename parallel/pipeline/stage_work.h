#pragma once
// The interface between the executor and the model: the compute of a pipeline program's actions and the
// buffers between stages.

#include "runtime/tensor.h"

namespace foretoken {

/// A microbatch in flight on a stage.
struct InFlight {
  int stage = 0;  // virtual stage, numbered over the whole model
  int microbatch = 0;
  int slot = 0;  // of the stage: holds the microbatch's buffers
};

class StageWork {
 public:
  virtual ~StageWork() = default;

  /// Boundary buffers of the slot, each [B, T, C]; they live as long as the stage. The first stage has no
  /// activation_in and no gradient_out; the last stage has no activation_out and no gradient_in.
  virtual Tensor activation_in(const InFlight& at) = 0;   // filled before forward
  virtual Tensor activation_out(const InFlight& at) = 0;  // filled by forward
  virtual Tensor gradient_in(const InFlight& at) = 0;     // d activation_out, filled before backward
  virtual Tensor gradient_out(const InFlight& at) = 0;    // d activation_in, filled by backward

  virtual void forward(const InFlight& at) = 0;
  /// Both halves: computes the input gradient and accumulates the weight gradients.
  virtual void backward(const InFlight& at) = 0;
  virtual void backward_input(const InFlight& at) = 0;
  virtual void backward_weight(const InFlight& at) = 0;
};

}  // namespace foretoken
