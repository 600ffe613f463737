#include "runtime/operators/dispatch.h"
#include "runtime/operators/rowwise/rope.h"

namespace foretoken::cpu {

void rope(Stream& stream, const Rope& op) {
  const std::int64_t b = op.qkv.shape[0], t = op.qkv.shape[1], width = op.qkv.shape[2],
                     half = op.cos.shape[1];
  with_floating("rope", op.qkv.dtype, [&]<class T>() {
    const T sign = op.direction == RopeDirection::forward ? 1 : -1;
    const std::int32_t* positions = op.positions.defined() ? op.positions.as<std::int32_t>() : nullptr;
    stream.threads().parallel_for(b * t, 16, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t n = begin; n < end; ++n) {
        const std::int64_t position = positions ? positions[n] : n % t;
        const T* cos = op.cos.as<T>() + position * half;
        const T* sin = op.sin.as<T>() + position * half;
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

}  // namespace foretoken::cpu
