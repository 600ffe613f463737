#include "runtime/operators/rowwise/rope.h"

#include <cmath>

#include "runtime/error.h"
#include "runtime/operators/dispatch.h"
#include "runtime/timing/profile.h"

namespace foretoken {

void rope_table(const Tensor& cos, const Tensor& sin, double rope_theta) {
  const std::int64_t positions = cos.shape[0], half = cos.shape[1];
  with_floating("rope_table", cos.dtype, [&]<class T>() {
    for (std::int64_t t = 0; t < positions; ++t)
      for (std::int64_t i = 0; i < half; ++i) {
        const double angle = static_cast<double>(t) *
                             std::pow(rope_theta, -static_cast<double>(i) / static_cast<double>(half));
        cos.as<T>()[t * half + i] = static_cast<T>(std::cos(angle));
        sin.as<T>()[t * half + i] = static_cast<T>(std::sin(angle));
      }
  });
}

void rope(Stream& stream, const Rope& op) {
  const ProfileScope scope(stream, "rope");
  const std::int64_t b = op.qkv.shape[0], t = op.qkv.shape[1];
  const bool placed = op.positions.defined() ? op.positions.elements() == b * t : op.cos.shape[0] >= t;
  if (!placed || op.sin.shape != op.cos.shape || op.heads * 2 * op.cos.shape[1] > op.qkv.shape[2])
    throw DefectError("rope: qkv {}, table {}, {} heads, positions {} do not fit", to_string(op.qkv.shape),
                      to_string(op.cos.shape), op.heads, to_string(op.positions.shape));
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::rope(stream, op);
  cpu::rope(stream, op);
}

}  // namespace foretoken
