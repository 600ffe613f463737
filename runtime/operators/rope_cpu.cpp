#include <cmath>

#include "runtime/operators/dispatch.h"
#include "runtime/operators/rope.h"
#include "runtime/profile.h"

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
  const std::int64_t b = op.qkv.shape[0], t = op.qkv.shape[1], width = op.qkv.shape[2],
                     half = op.cos.shape[1];
  if (op.cos.shape[0] < t || op.sin.shape != op.cos.shape || op.heads * 2 * half > width)
    throw DefectError("rope: qkv {}, table {}, {} heads do not fit", to_string(op.qkv.shape),
                      to_string(op.cos.shape), op.heads);
  with_floating("rope", op.qkv.dtype, [&]<class T>() {
    const T sign = op.direction == RopeDirection::forward ? 1 : -1;
    stream.threads().parallel_for(b * t, 16, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t n = begin; n < end; ++n) {
        const T* cos = op.cos.as<T>() + (n % t) * half;
        const T* sin = op.sin.as<T>() + (n % t) * half;
        for (std::int64_t head = 0; head < op.heads; ++head) {
          T* x1 = op.qkv.as<T>() + n * width + head * 2 * half;
          T* x2 = x1 + half;
#pragma omp simd
          for (std::int64_t i = 0; i < half; ++i) {
            const T a = x1[i], c = x2[i], s = sign * sin[i];
            x1[i] = a * cos[i] - c * s;
            x2[i] = c * cos[i] + a * s;
          }
        }
      }
    });
  });
}

}  // namespace foretoken
