#include "runtime/operators/products/linear_swiglu.h"

#include "runtime/error.h"
#include "runtime/operators/dispatch.h"
#include "runtime/timing/profile.h"

namespace foretoken {

void linear_swiglu_forward(Stream& stream, const LinearSwigluForward& op) {
  const ProfileScope scope(stream, "linear_swiglu_forward");
  const std::int64_t f = op.weight.shape[0] / 2, c = op.weight.shape[1];
  const std::int64_t n = c == 0 ? 0 : op.x.elements() / c;
  if (op.weight.shape.rank() != 2 || op.weight.shape[0] != 2 * f || n * c != op.x.elements() ||
      n * 2 * f != op.gate_up.elements() || n * f != op.gated.elements())
    throw DefectError(
        "linear_swiglu_forward: x {}, weight {}, gate_up {}, gated {} do not fit [N, C], [2F, C], [N, 2F], "
        "[N, F]",
        to_string(op.x.shape), to_string(op.weight.shape), to_string(op.gate_up.shape),
        to_string(op.gated.shape));
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::linear_swiglu_forward(stream, op);
  cpu::linear_swiglu_forward(stream, op);
}

void linear_swiglu_backward_input(Stream& stream, const LinearSwigluBackwardInput& op) {
  const ProfileScope scope(stream, "linear_swiglu_backward_input");
  const std::int64_t c = op.weight.shape[0], f = op.weight.shape[1];
  const std::int64_t n = c == 0 ? 0 : op.dout.elements() / c;
  if (op.weight.shape.rank() != 2 || n * c != op.dout.elements() || n * 2 * f != op.gate_up.elements() ||
      n * 2 * f != op.dgate_up.elements() || n * f != op.dgated.elements() ||
      (op.gated.defined() && n * f != op.gated.elements()))
    throw DefectError(
        "linear_swiglu_backward_input: dout {}, weight {}, gate_up {}, dgate_up {}, dgated {}, gated {} do "
        "not fit [N, C], [C, F], [N, 2F], [N, 2F], [N, F], [N, F]",
        to_string(op.dout.shape), to_string(op.weight.shape), to_string(op.gate_up.shape),
        to_string(op.dgate_up.shape), to_string(op.dgated.shape), to_string(op.gated.shape));
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::linear_swiglu_backward_input(stream, op);
  cpu::linear_swiglu_backward_input(stream, op);
}

}  // namespace foretoken
