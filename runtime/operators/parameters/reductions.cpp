#include "runtime/operators/parameters/reductions.h"

#include "runtime/operators/dispatch.h"
#include "runtime/timing/profile.h"

namespace foretoken {

void sum_of_squares(Stream& stream, const SumOfSquares& op) {
  const ProfileScope scope(stream, "sum_of_squares");
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::sum_of_squares(stream, op);
  cpu::sum_of_squares(stream, op);
}

void inner_product(Stream& stream, const InnerProduct& op) {
  const ProfileScope scope(stream, "inner_product");
  if (op.x.dtype != op.y.dtype || op.x.elements() != op.y.elements())
    throw DefectError("inner_product: x {} {}, y {} {}", name_of(op.x.dtype), to_string(op.x.shape),
                      name_of(op.y.dtype), to_string(op.y.shape));
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::inner_product(stream, op);
  cpu::inner_product(stream, op);
}

void clip_scale(Stream& stream, const ClipScale& op) {
  const ProfileScope scope(stream, "clip_scale");
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::clip_scale(stream, op);
  cpu::clip_scale(stream, op);
}

void mark_not_finite(Stream& stream, const MarkNotFinite& op) {
  const ProfileScope scope(stream, "mark_not_finite");
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::mark_not_finite(stream, op);
  cpu::mark_not_finite(stream, op);
}

void fingerprint(Stream& stream, const Fingerprint& op) {
  const ProfileScope scope(stream, "fingerprint");
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::fingerprint(stream, op);
  cpu::fingerprint(stream, op);
}

std::int64_t fingerprint_of(Stream& stream, const Tensor& x) {
  const ProfileScope scope(stream, "fingerprint");
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::fingerprint_of(stream, x);
  return cpu::fingerprint_of(stream, x);
}

}  // namespace foretoken
