#include "runtime/operators/vocabulary/argmax.h"

#include "runtime/error.h"
#include "runtime/operators/dispatch.h"
#include "runtime/timing/profile.h"

namespace foretoken {

void argmax(Stream& stream, const Argmax& op) {
  const ProfileScope scope(stream, "argmax");
  if (op.x.shape.rank() != 2 || op.out.shape.rank() != 2 || op.out.shape[0] != op.x.shape[0] ||
      op.count < op.out.shape[1] || op.count > op.x.shape[1])
    throw DefectError("argmax: {} columns of x {}, out {} do not fit [N, V], [N, K]", op.count,
                      to_string(op.x.shape), to_string(op.out.shape));
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::argmax(stream, op);
  cpu::argmax(stream, op);
}

}  // namespace foretoken
