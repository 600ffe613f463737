#include "runtime/cuda/context.h"
#include "runtime/cuda/reduce.cuh"
#include "runtime/operators/parameters/reductions.h"
#include "runtime/random.h"

namespace foretoken::cuda {

namespace {

constexpr int threads = 512;
constexpr std::int64_t block_elements = 1 << 16;  // fixed, because it determines the order of a sum

struct Square {
  template <class T>
  __device__ double operator()(const T* x, std::int64_t i) const {
    const float value = to_float(x[i]);
    return static_cast<double>(value) * static_cast<double>(value);
  }
};

template <class T>
struct Product {
  const T* y;
  __device__ double operator()(const T* x, std::int64_t i) const {
    return static_cast<double>(to_float(x[i])) * static_cast<double>(to_float(y[i]));
  }
};

struct Mix {
  template <class Word>
  __device__ unsigned long long operator()(const Word* words, std::int64_t i) const {
    return mix64(words[i] + mix64(static_cast<std::uint64_t>(i)));
  }
};

/// partial[b] = Σᵢ term(x, i) over the block_elements elements i that block b owns. A thread owns every
/// threads-th of them, so that neighbouring threads read neighbouring elements.
template <class T, class Sum, class Term>
__global__ void partial_sums(const T* x, std::int64_t count, Sum* partial, Term term) {
  __shared__ Sum shared[threads / 32];
  const std::int64_t begin = blockIdx.x * block_elements;
  const std::int64_t end = min(count, begin + block_elements);
  Sum sum = 0;
#pragma unroll 8
  for (std::int64_t i = begin + threadIdx.x; i < end; i += threads) sum += term(x, i);
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

template <class T, class Sum, class Term>
void add_sum(Stream& stream, const T* x, std::int64_t count, Sum* partial, Sum* total, Term term) {
  if (count == 0) return;
  const unsigned blocks = blocks_for(count, block_elements);
  partial_sums<<<blocks, threads, 0, stream.cuda().stream()>>>(x, count, partial, term);
  add_partials<<<1, reduce_threads, 0, stream.cuda().stream()>>>(partial, blocks, total);
  check_launch("sum");
}

/// ClipScale's formula, by one thread.
__global__ void clip(const double* sum, double limit, double* scale) {
  *scale = !isfinite(*sum) ? nan("") : limit > 0 ? fmin(1.0, limit / (sqrt(*sum) + 1e-6)) : 1.0;
}

/// Sets *sum to NaN if an element of x is not finite. Launch with one warp; a lane owns every 32nd element.
__global__ void mark(const double* x, std::int64_t count, double* sum) {
  bool finite = true;
  for (std::int64_t i = threadIdx.x; i < count; i += 32) finite &= isfinite(x[i]);
  if (!__all_sync(0xffffffffU, finite) && threadIdx.x == 0) *sum = nan("");
}

/// Returns workspace for a result and, after it, one partial sum per block; 8 bytes each.
void* result_and_partials(Stream& stream, std::int64_t count) {
  return stream.cuda().workspace(sizeof(double) * (2 + static_cast<std::size_t>(count / block_elements)));
}

/// *total = Σᵢ mix64(bitsᵢ + mix64(i)); total may be the result of result_and_partials().
void sum_mixed(Stream& stream, const Tensor& x, unsigned long long* total) {
  const std::int64_t count = x.elements();
  auto* partial = static_cast<unsigned long long*>(result_and_partials(stream, count)) + 1;
  check(cudaMemsetAsync(total, 0, sizeof(*total), stream.cuda().stream()), "fingerprint");
  const auto add = [&](const auto* words) { add_sum(stream, words, count, partial, total, Mix{}); };
  switch (size_of(x.dtype)) {
    case 8:
      return add(static_cast<const std::uint64_t*>(x.data));
    case 4:
      return add(static_cast<const std::uint32_t*>(x.data));
    case 2:
      return add(static_cast<const std::uint16_t*>(x.data));
    default:
      return add(static_cast<const std::uint8_t*>(x.data));
  }
}

/// Returns workspace for one partial sum per block.
double* doubles(Stream& stream, std::int64_t count) {
  return static_cast<double*>(
      stream.cuda().workspace(sizeof(double) * (1 + static_cast<std::size_t>(count / block_elements))));
}

}  // namespace

void sum_of_squares(Stream& stream, const SumOfSquares& op) {
  const std::int64_t count = op.x.elements();
  double* partial = doubles(stream, count);
  with_activation("sum_of_squares", op.x.dtype, [&]<class T>() {
    add_sum(stream, static_cast<const T*>(op.x.data), count, partial, op.sum.as<double>(), Square{});
  });
}

void inner_product(Stream& stream, const InnerProduct& op) {
  const std::int64_t count = op.x.elements();
  double* partial = doubles(stream, count);
  with_activation("inner_product", op.x.dtype, [&]<class T>() {
    add_sum(stream, static_cast<const T*>(op.x.data), count, partial, op.sum.as<double>(),
            Product<T>{static_cast<const T*>(op.y.data)});
  });
}

void clip_scale(Stream& stream, const ClipScale& op) {
  clip<<<1, 1, 0, stream.cuda().stream()>>>(op.sum.as<double>(), op.limit, op.scale.as<double>());
  check_launch("clip_scale");
}

void mark_not_finite(Stream& stream, const MarkNotFinite& op) {
  mark<<<1, 32, 0, stream.cuda().stream()>>>(op.x.as<double>(), op.x.elements(), op.sum.as<double>());
  check_launch("mark_not_finite");
}

void fingerprint(Stream& stream, const Fingerprint& op) {
  static_assert(sizeof(unsigned long long) == sizeof(std::int64_t));
  sum_mixed(stream, op.x, static_cast<unsigned long long*>(static_cast<void*>(op.bits.as<std::int64_t>())));
}

std::int64_t fingerprint_of(Stream& stream, const Tensor& x) {
  auto* total = static_cast<unsigned long long*>(result_and_partials(stream, x.elements()));
  sum_mixed(stream, x, total);
  std::int64_t sum = 0;
  check(cudaMemcpyAsync(&sum, total, sizeof(sum), cudaMemcpyDeviceToHost, stream.cuda().stream()),
        "fingerprint");
  stream.synchronize();
  return sum;
}

}  // namespace foretoken::cuda
