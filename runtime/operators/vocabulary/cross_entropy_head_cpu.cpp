#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "runtime/operators/dispatch.h"
#include "runtime/operators/vector_math.h"
#include "runtime/operators/vocabulary/cross_entropy_head.h"

namespace foretoken::cpu {

namespace {

constexpr std::int32_t no_target = -1;

std::int32_t target_of(const Targets& targets, std::int64_t b, std::int64_t t) {
  const std::int64_t row = b * targets.tokens.shape[1];
  const std::int32_t* start = targets.document_start.as<std::int32_t>() + row;
  if (start[t] < 0 || start[t + targets.ahead] != start[t]) return no_target;
  return targets.tokens.as<std::int32_t>()[row + t + targets.ahead];
}

/// Returns the loss of one row of logits, and replaces the logits by their gradient if `gradient`.
template <class T>
double row_loss(T* logits, std::int64_t v, std::int32_t target, T scale, bool gradient) {
  if (target == no_target) {
    if (gradient) std::fill_n(logits, v, T(0));
    return 0;
  }
  T largest = -std::numeric_limits<T>::infinity();
#pragma omp simd reduction(max : largest)
  for (std::int64_t i = 0; i < v; ++i) largest = std::max(largest, logits[i]);
  const T target_logit = logits[target];
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < v; ++i) {
    logits[i] = exp(logits[i] - largest);
    sum += logits[i];
  }
  if (gradient) {
    const T factor = scale / sum;
#pragma omp simd
    for (std::int64_t i = 0; i < v; ++i) logits[i] *= factor;
    logits[target] -= scale;
  }
  return static_cast<double>(largest + std::log(sum) - target_logit);
}

}  // namespace

void cross_entropy_rows(Stream& stream, const CrossEntropyRows& op) {
  const std::int64_t t = op.head.x.shape[1], rows = op.logits.shape[0], v = op.logits.shape[1];
  const bool gradient = op.head.takes_gradient();
  double* loss = op.head.loss_sum.defined() ? op.head.loss_sum.as<double>() : nullptr;
  with_floating("cross_entropy_head", op.logits.dtype, [&]<class T>() {
    // Losses are summed in fixed blocks, so the order does not depend on the number of threads.
    constexpr std::int64_t block = 32;
    const std::int64_t blocks = (rows + block - 1) / block;
    std::array<double, 512> sums{};
    for (std::int64_t begin_block = 0; begin_block < blocks; begin_block += std::ssize(sums)) {
      const std::int64_t count = std::min<std::int64_t>(std::ssize(sums), blocks - begin_block);
      stream.threads().parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          double sum = 0;
          const std::int64_t from = (begin_block + i) * block;
          for (std::int64_t n = from; n < std::min(rows, from + block); ++n) {
            T* logits = op.logits.as<T>() + n * v;
            const std::int64_t at = op.first + n;
            if (op.head.argmax.defined())
              op.head.argmax.as<std::int32_t>()[at] =
                  static_cast<std::int32_t>(std::max_element(logits, logits + v) - logits);
            if (!loss && !gradient) continue;
            sum += row_loss(logits, v, target_of(op.head.targets, at / t, at % t),
                            static_cast<T>(op.head.gradient_scale), gradient);
          }
          sums[static_cast<std::size_t>(i)] = sum;
        }
      });
      if (loss)
        for (std::int64_t i = 0; i < count; ++i) *loss += sums[static_cast<std::size_t>(i)];
    }
  });
}

}  // namespace foretoken::cpu
