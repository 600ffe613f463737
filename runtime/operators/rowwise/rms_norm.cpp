#include "runtime/operators/rowwise/rms_norm.h"

#include "runtime/error.h"
#include "runtime/operators/dispatch.h"
#include "runtime/timing/profile.h"

namespace foretoken {

namespace {

void check(const char* who, const Tensor& x, const Tensor& rstd, const Tensor& weight, const Columns& out) {
  const std::int64_t n = rstd.elements(), c = weight.elements();
  const std::int64_t stride = n == 0 ? c : out.matrix.elements() / n;
  if (x.elements() != n * c || out.matrix.elements() != n * stride || out.first + c > stride)
    throw DefectError("{}: x {}, weight {}, rstd {}, columns [{}, {}) of {} do not fit", who,
                      to_string(x.shape), to_string(weight.shape), to_string(rstd.shape), out.first,
                      out.first + c, to_string(out.matrix.shape));
}

}  // namespace

void rms_norm_forward(Stream& stream, const RmsNormForward& op) {
  const ProfileScope scope(stream, "rms_norm_forward");
  check("rms_norm_forward", op.x, op.rstd, op.weight, op.out);
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::rms_norm_forward(stream, op);
  cpu::rms_norm_forward(stream, op);
}

void rms_norm_backward(Stream& stream, const RmsNormBackward& op) {
  const ProfileScope scope(stream, "rms_norm_backward");
  check("rms_norm_backward", op.x, op.rstd, op.weight, op.dout);
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::rms_norm_backward(stream, op);
  cpu::rms_norm_backward(stream, op);
}

}  // namespace foretoken
