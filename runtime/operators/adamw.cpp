#include "runtime/operators/adamw.h"

#include "runtime/error.h"
#include "runtime/operators/dispatch.h"
#include "runtime/profile.h"

namespace foretoken {

void adamw(Stream& stream, const AdamW& op) {
  const ProfileScope scope(stream, "adamw");
  const std::int64_t n = op.values.elements();
  for (const Tensor* other : {&op.gradients, &op.exp_avg, &op.exp_avg_sq})
    if (other->elements() != n)
      throw DefectError("adamw: {} values, but a state of {}", n, other->elements());
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::adamw(stream, op);
  cpu::adamw(stream, op);
}

}  // namespace foretoken
