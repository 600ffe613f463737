#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include <xxhash.h>

#include "runtime/operators/dispatch.h"
#include "runtime/operators/parameters/reductions.h"

namespace foretoken::cpu {

namespace {

constexpr std::int64_t block = 1 << 14;  // elements; fixed, because it determines the order of a sum

double wide(double x) {
  return x;
}
double wide(BFloat16 x) {
  return static_cast<float>(x);
}

/// Returns Σ partial(begin, end) over all blocks of elements, added in the order of the blocks.
template <class Partial>
double sum_of_blocks(Stream& stream, std::int64_t count, const Partial& partial) {
  const std::int64_t blocks = (count + block - 1) / block;
  std::vector<double> sums(static_cast<std::size_t>(blocks));
  stream.threads().parallel_for(blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b)
      sums[static_cast<std::size_t>(b)] = partial(b * block, std::min(count, (b + 1) * block));
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

}  // namespace

void sum_of_squares(Stream& stream, const SumOfSquares& op) {
  cpu::inner_product(stream, {.x = op.x, .y = op.x, .sum = op.sum});
}

void inner_product(Stream& stream, const InnerProduct& op) {
  const auto sum_of = [&]<class T>() {
    const T *x = op.x.as<T>(), *y = op.y.as<T>();
    return sum_of_blocks(stream, op.x.elements(), [&](std::int64_t begin, std::int64_t end) {
      double sum = 0;
#pragma omp simd reduction(+ : sum)
      for (std::int64_t i = begin; i < end; ++i) sum += wide(x[i]) * wide(y[i]);
      return sum;
    });
  };
  *op.sum.as<double>() += op.x.dtype == DType::bf16 ? sum_of.operator()<BFloat16>()  // moments
                                                    : with_floating("inner_product", op.x.dtype, sum_of);
}

void clip_scale(Stream&, const ClipScale& op) {
  const double sum = *op.sum.as<double>();
  double scale = op.limit > 0 ? std::min(1.0, op.limit / (std::sqrt(sum) + 1e-6)) : 1;
  if (!std::isfinite(sum)) scale = std::numeric_limits<double>::quiet_NaN();
  *op.scale.as<double>() = scale;
}

void mark_not_finite(Stream&, const MarkNotFinite& op) {
  const std::span<const double> x = op.x.span<double>();
  if (!std::all_of(x.begin(), x.end(), [](double each) { return std::isfinite(each); }))
    *op.sum.as<double>() = std::numeric_limits<double>::quiet_NaN();
}

void fingerprint(Stream& stream, const Fingerprint& op) {
  constexpr std::int64_t bytes_of_part = 1 << 20;
  const auto* bytes = static_cast<const std::byte*>(op.x.data);
  const auto size = static_cast<std::int64_t>(op.x.bytes());
  const std::int64_t parts = (size + bytes_of_part - 1) / bytes_of_part;
  std::vector<std::uint64_t> digests(static_cast<std::size_t>(parts));
  stream.threads().parallel_for(parts, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t part = begin; part < end; ++part) {
      const std::int64_t at = part * bytes_of_part;
      digests[static_cast<std::size_t>(part)] =
          XXH3_64bits(bytes + at, static_cast<std::size_t>(std::min(bytes_of_part, size - at)));
    }
  });
  *op.bits.as<std::int64_t>() = static_cast<std::int64_t>(
      parts == 1 ? digests.front() : XXH3_64bits(digests.data(), digests.size() * sizeof(digests.front())));
}

std::int64_t fingerprint_of(Stream& stream, const Tensor& x) {
  std::int64_t bits = 0;
  cpu::fingerprint(stream, {.x = x, .bits = tensor_over(std::span(&bits, 1), {1})});
  return bits;
}

}  // namespace foretoken::cpu
