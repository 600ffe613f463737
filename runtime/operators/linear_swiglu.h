#pragma once
// The two products of a gated MLP that have SwiGLU (swiglu.h) next to them, and SwiGLU with them: the gate's
// matrices are the largest of a model, and a GPU that gates a product's results before it stores them passes
// over these matrices once less.
//
//   forward         gate_up = x · Wᵀ,  gated = silu(gate) · up
//   backward_input  dgated = dout · W_down,  dgate_up as in swiglu.h
//
// W_down is the weight of the linear layer that took gated in. The weights' own gradients are
// linear_backward_weight's.

#include "runtime/stream.h"

namespace foretoken {

struct LinearSwigluForward {
  Tensor x;        // [N, C]
  Tensor weight;   // [2F, C]: the gate's rows first
  Tensor gate_up;  // [N, 2F] =
  Tensor gated;    // [N, F] =
};
void linear_swiglu_forward(Stream& stream, const LinearSwigluForward& op);

struct LinearSwigluBackwardInput {
  Tensor dout;      // [N, C]
  Tensor weight;    // [C, F]: W_down
  Tensor gate_up;   // [N, 2F]
  Tensor dgate_up;  // [N, 2F] =; may be gate_up itself
  Tensor dgated;    // [N, F], scratch
  Tensor gated;     // [N, F] =, optional: what forward gave, for those who did not keep it; may be dgated
};
void linear_swiglu_backward_input(Stream& stream, const LinearSwigluBackwardInput& op);

namespace cpu {
void linear_swiglu_forward(Stream& stream, const LinearSwigluForward& op);
void linear_swiglu_backward_input(Stream& stream, const LinearSwigluBackwardInput& op);
}  // namespace cpu
namespace cuda {
void linear_swiglu_forward(Stream& stream, const LinearSwigluForward& op);
void linear_swiglu_backward_input(Stream& stream, const LinearSwigluBackwardInput& op);
}  // namespace cuda

}  // namespace foretoken
