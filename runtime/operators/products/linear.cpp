#include "runtime/operators/products/linear.h"

#include "runtime/error.h"
#include "runtime/operators/dispatch.h"
#include "runtime/timing/profile.h"

namespace foretoken {

namespace {

/// x [N, I], weight [O, I], out [N, O]; leading dims of x and out are folded into N.
void check(const char* who, const Tensor& x, const Tensor& weight, const Tensor& out) {
  const std::int64_t o = weight.shape[0], i = weight.shape[1];
  const std::int64_t n = i == 0 ? 0 : x.elements() / i;
  if (weight.shape.rank() != 2 || n * i != x.elements() || n * o != out.elements())
    throw DefectError("{}: x {}, weight {}, out {} do not fit [N, I], [O, I], [N, O]", who,
                      to_string(x.shape), to_string(weight.shape), to_string(out.shape));
}

}  // namespace

void linear_forward(Stream& stream, const LinearForward& op) {
  const ProfileScope scope(stream, "linear_forward");
  check("linear_forward", op.x, op.weight, op.out);
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::linear_forward(stream, op);
  cpu::linear_forward(stream, op);
}

void linear_backward_input(Stream& stream, const LinearBackwardInput& op) {
  const ProfileScope scope(stream, "linear_backward_input");
  check("linear_backward_input", op.dx, op.weight, op.dout);
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::linear_backward_input(stream, op);
  cpu::linear_backward_input(stream, op);
}

void linear_backward_weight(Stream& stream, const LinearBackwardWeight& op) {
  const ProfileScope scope(stream, "linear_backward_weight");
  check("linear_backward_weight", op.x, op.dweight, op.dout);
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::linear_backward_weight(stream, op);
  cpu::linear_backward_weight(stream, op);
}

}  // namespace foretoken
