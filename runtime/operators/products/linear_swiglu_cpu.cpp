#include "runtime/operators/products/linear.h"
#include "runtime/operators/products/linear_swiglu.h"
#include "runtime/operators/rowwise/swiglu.h"

namespace foretoken::cpu {

void linear_swiglu_forward(Stream& stream, const LinearSwigluForward& op) {
  cpu::linear_forward(stream, {.x = op.x, .weight = op.weight, .out = op.gate_up});
  cpu::swiglu_forward(stream, {.gate_up = op.gate_up, .out = op.gated});
}

void linear_swiglu_backward_input(Stream& stream, const LinearSwigluBackwardInput& op) {
  cpu::linear_backward_input(stream, {.dout = op.dout, .weight = op.weight, .dx = op.dgated});
  cpu::swiglu_backward(stream,
                       {.dout = op.dgated, .gate_up = op.gate_up, .dgate_up = op.dgate_up, .out = op.gated});
}

}  // namespace foretoken::cpu
