#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "runtime/operators/cross_entropy_head.h"
#include "runtime/operators/dispatch.h"
#include "runtime/operators/linear.h"
#include "runtime/operators/vector_math.h"
#include "runtime/profile.h"

namespace foretoken {

namespace {

constexpr std::int32_t no_target = -1;

std::int32_t target_of(const Targets& targets, std::int64_t b, std::int64_t t) {
  const std::int64_t row = b * targets.tokens.shape[1];
  const std::int32_t* start = targets.document_start.as<std::int32_t>() + row;
  if (start[t] < 0 || start[t + targets.ahead] != start[t]) return no_target;
  return targets.tokens.as<std::int32_t>()[row + t + targets.ahead];
}

/// One row of logits becomes its gradient (where wanted); returns its loss.
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
    logits[i] = cpu::exp(logits[i] - largest);
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

std::int64_t count_targets(const Targets& targets, std::int64_t t) {
  std::int64_t count = 0;
  for (std::int64_t b = 0; b < targets.tokens.shape[0]; ++b)
    for (std::int64_t i = 0; i < t; ++i) count += target_of(targets, b, i) != no_target;
  return count;
}

double cross_entropy_head(Stream& stream, const CrossEntropyHead& op) {
  const ProfileScope scope(stream, "cross_entropy_head");
  const std::int64_t b = op.x.shape[0], t = op.x.shape[1], c = op.x.shape[2], v = op.weight.shape[0];
  if (op.weight.shape != Shape{v, c} || op.targets.tokens.shape[0] != b ||
      op.targets.tokens.shape[1] < t + op.targets.ahead ||
      op.targets.document_start.shape != op.targets.tokens.shape || op.logits.shape[1] != v ||
      op.dx.defined() != op.dweight.defined())
    throw DefectError(
        "cross_entropy_head: x {}, weight {}, tokens {} at {} ahead, document_start {}, logits {}",
        to_string(op.x.shape), to_string(op.weight.shape), to_string(op.targets.tokens.shape),
        op.targets.ahead, to_string(op.targets.document_start.shape), to_string(op.logits.shape));
  const Tensor x = op.x.view({b * t, c});
  const bool gradient = op.dx.defined();
  double loss = 0;
  for (std::int64_t first = 0; first < b * t; first += op.logits.shape[0]) {
    const std::int64_t rows = std::min(op.logits.shape[0], b * t - first);
    const Tensor chunk = x.rows(first, rows);
    const Tensor logits = op.logits.rows(0, rows);
    linear_forward(stream, {.x = chunk, .weight = op.weight, .out = logits});
    with_floating("cross_entropy_head", logits.dtype, [&]<class T>() {
      // Losses are summed in row order whatever the threads: by fixed blocks.
      constexpr std::int64_t block = 32;
      const std::int64_t blocks = (rows + block - 1) / block;
      std::array<double, 512> sums{};
      for (std::int64_t begin_block = 0; begin_block < blocks; begin_block += std::ssize(sums)) {
        const std::int64_t count = std::min<std::int64_t>(std::ssize(sums), blocks - begin_block);
        stream.threads().parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t i = begin; i < end; ++i) {
            double sum = 0;
            const std::int64_t from = (begin_block + i) * block;
            for (std::int64_t n = from; n < std::min(rows, from + block); ++n)
              sum +=
                  row_loss(logits.as<T>() + n * v, v, target_of(op.targets, (first + n) / t, (first + n) % t),
                           static_cast<T>(op.gradient_scale), gradient);
            sums[static_cast<std::size_t>(i)] = sum;
          }
        });
        for (std::int64_t i = 0; i < count; ++i) loss += sums[static_cast<std::size_t>(i)];
      }
    });
    if (!gradient) continue;
    linear_backward_input(
        stream, {.dout = logits, .weight = op.weight, .dx = op.dx.view({b * t, c}).rows(first, rows)});
    linear_backward_weight(stream, {.dout = logits, .x = chunk, .dweight = op.dweight});
  }
  return loss;
}

}  // namespace foretoken
