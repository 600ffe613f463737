#include "runtime/operators/parameters/random_normal.h"

#include "runtime/timing/profile.h"

namespace foretoken {

void random_normal(Stream& stream, const RandomNormal& op) {
  const ProfileScope scope(stream, "random_normal");
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::random_normal(stream, op);
  cpu::random_normal(stream, op);
}

}  // namespace foretoken
