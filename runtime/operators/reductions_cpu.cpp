#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "runtime/operators/dispatch.h"
#include "runtime/operators/reductions.h"
#include "runtime/random.h"

namespace foretoken::cpu {

namespace {

constexpr std::int64_t block = 1 << 14;  // fixed, so that the order of a sum is

/// partial(begin, end) of every block, summed in block order.
template <class Sum, class Partial>
Sum sum_of_blocks(Stream& stream, std::int64_t count, const Partial& partial) {
  const std::int64_t blocks = (count + block - 1) / block;
  std::vector<Sum> sums(static_cast<std::size_t>(blocks));
  stream.threads().parallel_for(blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b)
      sums[static_cast<std::size_t>(b)] = partial(b * block, std::min(count, (b + 1) * block));
  });
  Sum total{};
  for (const Sum& sum : sums) total += sum;
  return total;
}

template <class Word>
std::uint64_t checksum_of(Stream& stream, const Word* words, std::int64_t count) {
  return sum_of_blocks<std::uint64_t>(stream, count, [&](std::int64_t begin, std::int64_t end) {
    std::uint64_t sum = 0;
    for (std::int64_t i = begin; i < end; ++i) sum += mix64(words[i] + mix64(static_cast<std::uint64_t>(i)));
    return sum;
  });
}

}  // namespace

void sum_of_squares(Stream& stream, const SumOfSquares& op) {
  cpu::inner_product(stream, {.x = op.x, .y = op.x, .sum = op.sum});
}

void inner_product(Stream& stream, const InnerProduct& op) {
  *op.sum.as<double>() += with_floating("inner_product", op.x.dtype, [&]<class T>() {
    const T *x = op.x.as<T>(), *y = op.y.as<T>();
    return sum_of_blocks<double>(stream, op.x.elements(), [&](std::int64_t begin, std::int64_t end) {
      double sum = 0;
#pragma omp simd reduction(+ : sum)
      for (std::int64_t i = begin; i < end; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(y[i]);
      return sum;
    });
  });
}

void clip_scale(Stream&, const ClipScale& op) {
  const double sum = *op.sum.as<double>();
  double scale = op.limit > 0 ? std::min(1.0, op.limit / (std::sqrt(sum) + 1e-6)) : 1;
  if (!std::isfinite(sum)) scale = std::numeric_limits<double>::quiet_NaN();
  *op.scale.as<double>() = scale;
}

std::uint64_t checksum(Stream& stream, const Tensor& x) {
  switch (size_of(x.dtype)) {
    case 8:
      return checksum_of(stream, static_cast<const std::uint64_t*>(x.data), x.elements());
    case 4:
      return checksum_of(stream, static_cast<const std::uint32_t*>(x.data), x.elements());
    case 2:
      return checksum_of(stream, static_cast<const std::uint16_t*>(x.data), x.elements());
    default:
      return checksum_of(stream, static_cast<const std::uint8_t*>(x.data), x.elements());
  }
}

}  // namespace foretoken::cpu
