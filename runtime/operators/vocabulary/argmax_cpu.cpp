#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/operators/vocabulary/argmax.h"

namespace foretoken::cpu {

namespace {

/// Index of the next candidate after index `last`: candidates are ordered by falling value, ties by rising
/// index.
std::int32_t next_after(const float* row, std::int64_t count, std::int32_t last) {
  std::int32_t best = -1;
  for (std::int32_t i = 0; i < count; ++i)
    if ((row[i] < row[last] || (row[i] == row[last] && i > last)) && (best < 0 || row[i] > row[best]))
      best = i;
  return best;
}

}  // namespace

void argmax(Stream& stream, const Argmax& op) {
  const std::int64_t v = op.x.shape[1], candidates = op.out.shape[1];
  constexpr std::int64_t worth_a_thread = 1 << 17;  // logits; a smaller part is not worth waking a thread
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
          const bool valid = std::isfinite(largest) && faults == 0;
          std::int32_t* out = op.out.as<std::int32_t>() + n * candidates;
          out[0] = valid ? static_cast<std::int32_t>(std::find(row, row + op.count, largest) - row) : -1;
          for (std::int64_t k = 1; k < candidates; ++k)
            out[k] = valid ? next_after(row, op.count, out[k - 1]) : -1;
        }
      });
}

}  // namespace foretoken::cpu
