#include "runtime/cuda/context.h"
#include "runtime/cuda/reduce.cuh"
#include "runtime/operators/vocabulary/cross_entropy_head.h"

namespace foretoken::cuda {

namespace {

constexpr int threads = 1024;

struct TargetRows {
  const std::int32_t *tokens, *document_start;  // [B, S]
  std::int64_t t, s, ahead;

  /// The target of row n; −1 if it has no valid target.
  __device__ std::int32_t target(std::int64_t n) const {
    const std::int64_t at = n / t * s + n % t;
    const std::int32_t start = document_start[at];
    return start >= 0 && document_start[at + ahead] == start ? tokens[at + ahead] : -1;
  }
};

/// Online softmax over some of a row's logits: their maximum, its lowest index, and Σ exp(x − maximum).
struct Softmax {
  float largest = -INFINITY;
  float sum = 0;
  int argmax = 0x7fffffff;

  __device__ void merge(const Softmax& other) {
    const float both = fmaxf(largest, other.largest);
    if (both == -INFINITY) return;
    sum = sum * __expf(largest - both) + other.sum * __expf(other.largest - both);
    if (other.largest > largest || (other.largest == largest && other.argmax < argmax)) argmax = other.argmax;
    largest = both;
  }
};

__device__ Softmax block_merge(Softmax x) {
  __shared__ Softmax shared[threads / 32];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const auto warp_merge = [&] {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2)
      x.merge({__shfl_xor_sync(full_warp, x.largest, offset), __shfl_xor_sync(full_warp, x.sum, offset),
               __shfl_xor_sync(full_warp, x.argmax, offset)});
  };
  warp_merge();
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  x = shared[lane];
  warp_merge();
  return x;
}

/// losses[row] = log Σ exp(logits) − logits[target], argmax, and logits = scale · (softmax(logits) −
/// onehot(target)) if `gradient`.
///
/// A block owns a row; a thread owns packs of N logits. The row is read once for maximum, sum and argmax, and
/// a second time to replace it by its gradient. L2 usually still holds the row then, because at most two rows
/// per multiprocessor are in flight. Shared memory: each warp's Softmax.
template <class T, int N>
__global__ void __launch_bounds__(threads)
    softmax_rows(T* __restrict__ logits, std::int64_t v, TargetRows targets, std::int64_t first, float scale,
                 bool gradient, float* __restrict__ losses, std::int32_t* __restrict__ argmax) {
  T* row = logits + static_cast<std::int64_t>(blockIdx.x) * v;
  const std::int64_t n = first + blockIdx.x;
  const std::int32_t target = targets.target(n);
  Softmax x;
  if (target >= 0 || argmax) {
    for (std::int64_t i = static_cast<std::int64_t>(threadIdx.x) * N; i < v; i += threads * N) {
      const Pack<T, N> pack = load<N>(row + i);
      float largest = x.largest;
#pragma unroll
      for (int j = 0; j < N; ++j) largest = fmaxf(largest, to_float(pack.at[j]));
      if (largest > x.largest) {
        x.sum *= __expf(x.largest - largest);
        x.largest = largest;
#pragma unroll
        for (int j = N - 1; j >= 0; --j)
          if (to_float(pack.at[j]) == largest) x.argmax = static_cast<int>(i) + j;
      }
#pragma unroll
      for (int j = 0; j < N; ++j) x.sum += __expf(to_float(pack.at[j]) - x.largest);
    }
    x = block_merge(x);
  }
  if (threadIdx.x == 0) {
    if (argmax) argmax[n] = x.argmax;
    losses[blockIdx.x] = target >= 0 ? x.largest + logf(x.sum) - to_float(row[target]) : 0.0F;
  }
  if (!gradient) return;
  __syncthreads();  // thread 0 has read the target's logit
  const float factor = target >= 0 ? scale / x.sum : 0.0F;
  for (std::int64_t i = static_cast<std::int64_t>(threadIdx.x) * N; i < v; i += threads * N) {
    Pack<T, N> pack = load<N>(row + i);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      float d = target >= 0 ? __expf(to_float(pack.at[j]) - x.largest) * factor : 0.0F;
      if (i + j == target) d -= scale;
      pack.at[j] = from_float<T>(d);
    }
    store<N>(row + i, pack);
  }
}

}  // namespace

void cross_entropy_rows(Stream& stream, const CrossEntropyRows& op) {
  const std::int64_t rows = op.logits.shape[0], v = op.logits.shape[1];
  if (rows == 0) return;
  Context& gpu = stream.cuda();
  const Targets& of = op.head.targets;
  const TargetRows targets{.tokens = of.tokens.as<std::int32_t>(),
                           .document_start = of.document_start.as<std::int32_t>(),
                           .t = op.head.x.shape[1],
                           .s = of.tokens.shape[1],
                           .ahead = of.ahead};
  auto* losses = static_cast<float*>(gpu.workspace(static_cast<std::size_t>(rows) * sizeof(float)));
  auto* argmax = op.head.argmax.defined() ? op.head.argmax.as<std::int32_t>() : nullptr;
  with_activation("cross_entropy_head", op.logits.dtype, [&]<class T>() {
    T* logits = static_cast<T*>(op.logits.data);
    const auto scale = static_cast<float>(op.head.gradient_scale);
    constexpr int pack = lane_elements<T>;
    const auto launch = [&]<int N>() {
      softmax_rows<T, N><<<static_cast<unsigned>(rows), threads, 0, gpu.stream()>>>(
          logits, v, targets, op.first, scale, op.head.takes_gradient(), losses, argmax);
    };
    packs<pack>(v, logits) ? launch.template operator()<pack>() : launch.template operator()<1>();
  });
  if (op.head.loss_sum.defined())
    add_partials<<<1, reduce_threads, 0, gpu.stream()>>>(losses, rows, op.head.loss_sum.as<double>());
  check_launch("cross_entropy_head");
}

}  // namespace foretoken::cuda
