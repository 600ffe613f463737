#include "runtime/operators/parameters/adamw.h"

#include "runtime/error.h"
#include "runtime/operators/dispatch.h"
#include "runtime/timing/profile.h"

namespace foretoken {

void adamw(Stream& stream, const AdamW& op) {
  const ProfileScope scope(stream, "adamw");
  const std::int64_t n = op.values.elements();
  for (const Tensor* other : {&op.gradients, &op.exp_avg, &op.exp_avg_sq})
    if (other->elements() != n)
      throw DefectError("adamw: {} values, but a state of {}", n, other->elements());
  const DType values = op.values.dtype, moments = op.exp_avg.dtype;
  if (op.exp_avg_sq.dtype != moments ||
      !(moments == values || (moments == DType::bf16 && values == DType::f32)))
    throw DefectError("adamw: moments in {} and {} over values in {}", name_of(moments),
                      name_of(op.exp_avg_sq.dtype), name_of(values));
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::adamw(stream, op);
  cpu::adamw(stream, op);
}

}  // namespace foretoken
