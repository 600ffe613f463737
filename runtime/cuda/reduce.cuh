#pragma once
// Sums of partial results in a fixed order.

#include "runtime/cuda/device.cuh"

namespace foretoken::cuda {

inline constexpr int reduce_threads = 512;

/// *total += Σ partial[0, count). Launch with one block of reduce_threads threads; a thread owns every
/// reduce_threads-th element.
template <class Partial, class Sum>
__global__ void add_partials(const Partial* partial, std::int64_t count, Sum* total) {
  __shared__ Sum shared[reduce_threads / 32];
  Sum sum = 0;
  for (std::int64_t i = threadIdx.x; i < count; i += reduce_threads) sum += static_cast<Sum>(partial[i]);
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) *total += sum;
}

/// *amax = max(*amax, largest of all lanes of the warp). Neither may be negative: the bits of non-negative
/// floats, compared as integers, have the order of the floats. Most warps do not exceed *amax and skip the
/// atomic operation.
static __device__ void raise_amax(float* amax, float largest) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2)
    largest = fmaxf(largest, __shfl_xor_sync(full_warp, largest, offset));
  if (threadIdx.x % 32 == 0 && largest > __ldcg(amax))
    atomicMax(reinterpret_cast<int*>(amax), __float_as_int(largest));
}

/// total[c] += Σᵣ partial[r, c]. A block of 32 × 32 threads owns 32 columns. Warp w sums rows w, w + 32, …, a
/// lane one column; the warps' sums are transposed in shared memory and added.
static __global__ void add_rows(const float* partial, std::int64_t rows, std::int64_t columns, float* total) {
  __shared__ float shared[32][33];
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * 32 + threadIdx.x;
  float sum = 0;
  if (column < columns)
    for (std::int64_t row = threadIdx.y; row < rows; row += 32) sum += partial[row * columns + column];
  shared[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  sum = warp_sum(shared[threadIdx.x][threadIdx.y]);
  const std::int64_t own = static_cast<std::int64_t>(blockIdx.x) * 32 + threadIdx.y;
  if (threadIdx.x == 0 && own < columns) total[own] += sum;
}

}  // namespace foretoken::cuda
