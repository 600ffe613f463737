#pragma once
// The interface between the executor and the model: the compute of a pipeline program's actions and the
// buffers between stages. A stage is a virtual stage, numbered globally; a slot holds one microbatch in
// flight on one stage.

#include "runtime/tensor.h"

namespace foretoken {

class StageWork {
 public:
  virtual ~StageWork() = default;

  /// Boundary buffers of one slot, each [B, T, C]; they live as long as the stage. The first stage has no
  /// activation_in and no gradient_out; the last stage has no activation_out and no gradient_in.
  virtual Tensor activation_in(int stage, int slot) = 0;   // filled before forward
  virtual Tensor activation_out(int stage, int slot) = 0;  // filled by forward
  virtual Tensor gradient_in(int stage, int slot) = 0;     // d activation_out, filled before backward
  virtual Tensor gradient_out(int stage, int slot) = 0;    // d activation_in, filled by backward

  virtual void forward(int stage, int microbatch, int slot) = 0;
  /// Both halves: computes the input gradient and accumulates the weight gradients.
  virtual void backward(int stage, int microbatch, int slot) = 0;
  virtual void backward_input(int stage, int microbatch, int slot) = 0;
  virtual void backward_weight(int stage, int microbatch, int slot) = 0;
};

}  // namespace foretoken
