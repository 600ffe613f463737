#pragma once
// The two products of a gated MLP before and after SwiGLU (swiglu.h), fused with it. gate_up is a model's
// largest activation. A GPU applies SwiGLU to a product's results before it stores them, which saves one pass
// over these matrices.
//
//   forward         gate_up = x · Wᵀ,  gated = silu(gate) · up
//   backward_input  dgated = dout · W_down,  dgate_up as in swiglu.h
//
// W_down is the weight of the linear layer whose input is `gated`. linear_backward_weight() computes the
// gradients of the weights. A tensor marked "=" is overwritten; the others are read.

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
  Tensor dgate_up;  // [N, 2F] =; may alias gate_up
  Tensor dgated;    // [N, F], scratch: overwritten with the gradient of `gated` unless a fused kernel runs
  Tensor gated;     // [N, F] =, optional: recomputes forward's output if it was not kept; may be dgated
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
