#include "runtime/operators/rowwise/activation.h"

#include "runtime/error.h"
#include "runtime/operators/dispatch.h"
#include "runtime/timing/profile.h"

namespace foretoken {

namespace {

void check(const char* who, const Tensor& a, const Tensor& b, const Tensor& c) {
  if (a.elements() != b.elements() || a.elements() != c.elements() || a.dtype != b.dtype ||
      a.dtype != c.dtype)
    throw DefectError("{}: {} {}, {} {} and {} {} differ", who, name_of(a.dtype), to_string(a.shape),
                      name_of(b.dtype), to_string(b.shape), name_of(c.dtype), to_string(c.shape));
}

}  // namespace

void activation_forward(Stream& stream, const ActivationForward& op) {
  const ProfileScope scope(stream, "activation_forward");
  check("activation_forward", op.x, op.residual.defined() ? op.residual : op.x, op.out);
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::activation_forward(stream, op);
  cpu::activation_forward(stream, op);
}

void activation_backward(Stream& stream, const ActivationBackward& op) {
  const ProfileScope scope(stream, "activation_backward");
  check("activation_backward", op.dout, op.x, op.dx);
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::activation_backward(stream, op);
  cpu::activation_backward(stream, op);
}

}  // namespace foretoken
