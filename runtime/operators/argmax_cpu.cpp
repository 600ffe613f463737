#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/operators/argmax.h"

namespace foretoken::cpu {

void argmax(Stream& stream, const Argmax& op) {
  const std::int64_t v = op.x.shape[1];
  constexpr std::int64_t worth_a_thread = 1 << 17;  // logits
  stream.threads().parallel_for(
      op.x.shape[0], worth_a_thread / op.count + 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t n = begin; n < end; ++n) {
          const float* row = op.x.as<float>() + n * v;
          float largest = -std::numeric_limits<float>::infinity(), faults = 0;
#pragma omp simd reduction(max : largest) reduction(+ : faults)
          for (std::int64_t i = 0; i < op.count; ++i) {
            largest = row[i] > largest ? row[i] : largest;
            faults += row[i] != row[i] ? 1.0F : 0.0F;
          }
          const bool sound = std::isfinite(largest) && faults == 0;
          op.out.as<std::int32_t>()[n] =
              sound ? static_cast<std::int32_t>(std::find(row, row + op.count, largest) - row) : -1;
        }
      });
}

}  // namespace foretoken::cpu
