#pragma once
// SwiGLU's gate (Shazeer, "GLU variants improve transformer", 2020, eq. 6) over a fused gate+up matrix.
//
//   out = silu(gate) · up,  silu(x) = x · σ(x)
//   dgate = dout · up · σ(gate) · (1 + gate · (1 − σ(gate)))      dup = dout · silu(gate)
//
// A tensor marked "=" is overwritten; the others are read.

#include "runtime/stream.h"

namespace foretoken {

struct SwigluForward {
  Tensor gate_up;  // [N, 2F]: gate in the first F columns
  Tensor out;      // [N, F] =
};
void swiglu_forward(Stream& stream, const SwigluForward& op);

struct SwigluBackward {
  Tensor dout;      // [N, F]
  Tensor gate_up;   // [N, 2F]
  Tensor dgate_up;  // [N, 2F] =; may alias gate_up
  Tensor out;       // [N, F] =, optional: recomputes forward's output if it was not kept; may alias dout
};
void swiglu_backward(Stream& stream, const SwigluBackward& op);

namespace cpu {
void swiglu_forward(Stream& stream, const SwigluForward& op);
void swiglu_backward(Stream& stream, const SwigluBackward& op);
}  // namespace cpu
namespace cuda {
void swiglu_forward(Stream& stream, const SwigluForward& op);
void swiglu_backward(Stream& stream, const SwigluBackward& op);
}  // namespace cuda

}  // namespace foretoken
