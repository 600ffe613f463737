#include "runtime/operators/reductions.h"

#include "runtime/operators/dispatch.h"
#include "runtime/profile.h"

namespace foretoken {

void sum_of_squares(Stream& stream, const SumOfSquares& op) {
  const ProfileScope scope(stream, "sum_of_squares");
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::sum_of_squares(stream, op);
  cpu::sum_of_squares(stream, op);
}

void clip_scale(Stream& stream, const ClipScale& op) {
  const ProfileScope scope(stream, "clip_scale");
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::clip_scale(stream, op);
  cpu::clip_scale(stream, op);
}

std::uint64_t checksum(Stream& stream, const Tensor& x) {
  const ProfileScope scope(stream, "checksum");
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::checksum(stream, x);
  return cpu::checksum(stream, x);
}

}  // namespace foretoken
