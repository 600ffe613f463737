#include "runtime/operators/rowwise/swiglu.h"

#include "runtime/error.h"
#include "runtime/operators/dispatch.h"
#include "runtime/timing/profile.h"

namespace foretoken {

namespace {

void check(const char* who, const Tensor& gate_up, const Tensor& out) {
  const std::int64_t f = out.shape[out.shape.rank() - 1];
  if (gate_up.elements() != 2 * out.elements() || gate_up.shape[gate_up.shape.rank() - 1] != 2 * f)
    throw DefectError("{}: gate_up {}, out {} do not fit [N, 2F], [N, F]", who, to_string(gate_up.shape),
                      to_string(out.shape));
}

}  // namespace

void swiglu_forward(Stream& stream, const SwigluForward& op) {
  const ProfileScope scope(stream, "swiglu_forward");
  check("swiglu_forward", op.gate_up, op.out);
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::swiglu_forward(stream, op);
  cpu::swiglu_forward(stream, op);
}

void swiglu_backward(Stream& stream, const SwigluBackward& op) {
  const ProfileScope scope(stream, "swiglu_backward");
  check("swiglu_backward", op.gate_up, op.dout);
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::swiglu_backward(stream, op);
  cpu::swiglu_backward(stream, op);
}

}  // namespace foretoken
