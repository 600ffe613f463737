#include <algorithm>
#include <cmath>

#include "runtime/operators/argmax.h"

namespace foretoken::cpu {

void argmax(Stream& stream, const Argmax& op) {
  const std::int64_t v = op.x.shape[1];
  stream.threads().parallel_for(op.x.shape[0], 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      const std::span<const float> row(op.x.as<float>() + n * v, static_cast<std::size_t>(op.count));
      const auto largest = std::max_element(row.begin(), row.end());
      const bool sound = std::isfinite(*largest) &&
                         std::none_of(row.begin(), row.end(), [](float x) { return std::isnan(x); });
      op.out.as<std::int32_t>()[n] = sound ? static_cast<std::int32_t>(largest - row.begin()) : -1;
    }
  });
}

}  // namespace foretoken::cpu
