#pragma once
// The end of a product of few rows: adds the partial sums of the slices of I and converts them to the results
// that the caller requests.

#include <cooperative_groups.h>
#include <type_traits>

#include "runtime/cuda/device.cuh"
#include "runtime/cuda/hopper.cuh"
#include "runtime/operators/products/few_rows_linear.h"
#include "runtime/operators/rowwise/swiglu.cuh"

namespace foretoken::cuda::few_rows {

enum class Result { bf16, f32, gated, heads };

/// Number of slices of I. It is fixed, because it determines the order of a sum: the two slices of each pair
/// are added first, then the sums of the pairs in order.
constexpr int slices = 8;
constexpr int block_threads = 32 * slices;

/// The arguments of a kernel, with a copy of the problem's heads.
struct Arguments : Problem {
  Heads of_heads;
};

/// Pair i of the eight pairs of outputs in a tile of 16: elements j and j + HS/2 of a head.
struct Pair {
  int head, j;
  __device__ Pair(const Heads& heads, int tile16, int i)
      : head(tile16 / (heads.dim / 16)), j(tile16 % (heads.dim / 16) * 8 + i) {}
};

/// Rotates the pair if it belongs to a query or key head. Stores queries in `out`, keys and values in the
/// cache.
__device__ __forceinline__ void place_pair(const Arguments& p, int row, const Pair& pair, __nv_bfloat16 first,
                                           __nv_bfloat16 second) {
  const Heads& h = p.of_heads;
  if (pair.head < h.query + h.key_value) {
    const std::int64_t angle = static_cast<std::int64_t>(h.positions[row]) * (h.dim / 2) + pair.j;
    const float a = to_float(first), b = to_float(second), cos = h.cos[angle], sin = h.sin[angle];
    // Explicit fma, because compilers contract an expression differently in different kernels.
    first = __float2bfloat16_rn(fmaf(a, cos, -__fmul_rn(b, sin)));
    second = __float2bfloat16_rn(fmaf(b, cos, __fmul_rn(a, sin)));
  }
  __nv_bfloat16* to = pair.head < h.query
                          ? static_cast<__nv_bfloat16*>(p.out) + static_cast<std::int64_t>(row) * p.outputs +
                                pair.head * h.dim
                          : h.cache + static_cast<std::int64_t>(h.slots[row]) * 2 * h.key_value * h.dim +
                                (pair.head - h.query) * h.dim;
  to[pair.j] = first;
  to[pair.j + h.dim / 2] = second;
}

/// Stores the results of a pair. Result::heads: two elements of a head. Result::gated: silu(gate) · up in
/// p.gated, and the gate and its up in p.out unless that is null.
template <Result result>
__device__ __forceinline__ void store_pair(const Arguments& p, int row, int output, __nv_bfloat16 first,
                                           __nv_bfloat16 second) {
  if constexpr (result == Result::heads) {
    place_pair(p, row, Pair(p.of_heads, output / 8, output % 8), first, second);
  } else {
    const int f = p.outputs / 2;
    if (auto* gate_up = static_cast<__nv_bfloat16*>(p.out)) {
      gate_up += static_cast<std::int64_t>(row) * 2 * f;
      gate_up[output] = first;
      gate_up[f + output] = second;
    }
    p.gated[static_cast<std::int64_t>(row) * f + output] =
        __float2bfloat16_rn(Silu(to_float(first)).value * to_float(second));
  }
}

/// Adds the partial sums of all slices for `many` neighbouring outputs of a row. If a cluster shares the
/// slices, each block has already added its two slices: its shared memory holds their sum.
template <class T, int many>
__device__ __forceinline__ void sum_slices(float (&sum)[many], float* partial, int row, int output) {
  float* from = partial + row * T::pitch + output;
  if constexpr (T::spread == 1) {
    static_assert(many == 1);
    constexpr int next = T::rows * T::pitch;
    sum[0] = 0;
#pragma unroll
    for (int slice = 0; slice < slices; slice += 2) sum[0] += from[slice * next] + from[(slice + 1) * next];
  } else {
    static_assert(many == 1 || many == 4);
    const auto cluster = cooperative_groups::this_cluster();
    float parts[T::spread][many];
#pragma unroll
    for (int rank = 0; rank < T::spread; ++rank) {
      const float* part = cluster.map_shared_rank(from, rank);
      if constexpr (many == 4)
        *reinterpret_cast<float4*>(parts[rank]) = *reinterpret_cast<const float4*>(part);
      else
        parts[rank][0] = *part;
    }
#pragma unroll
    for (int i = 0; i < many; ++i) {
      sum[i] = 0;
#pragma unroll
      for (int rank = 0; rank < T::spread; ++rank) sum[i] += parts[rank][i];
    }
  }
}

/// Returns 1 / √(mean(x²) + eps) of a row.
template <class T>
__device__ __forceinline__ float scale_of(const Arguments& p, float* partial, int row) {
  float squares[1];
  sum_slices<T>(squares, partial, row, T::outputs);
  return rsqrtf(squares[0] / static_cast<float>(p.inputs) + p.eps);
}

/// Call after all threads of the block have written their partial sums: adds the parts and stores the
/// results. The blocks of a cluster share this work.
template <class T, Result result, bool normed>
__device__ __forceinline__ void finish(const Arguments& p, float* partial, int rank, int tile,
                                       int first_row) {
  if constexpr (T::spread > 1)
    cooperative_groups::this_cluster().sync();
  else
    __syncthreads();
  // Reads from other multiprocessors are slow: a row's scale is computed once, and sums are read four at a
  // time.
  __shared__ float scales[T::spread > 1 ? T::rows : 1];
  if constexpr (normed && T::spread > 1) {
    for (int row = static_cast<int>(threadIdx.x); row < T::rows; row += block_threads)
      scales[row] = scale_of<T>(p, partial, row);
    __syncthreads();
  }
  constexpr bool in_pairs = result == Result::gated || result == Result::heads;
  constexpr int results = in_pairs ? T::outputs / 2 : T::outputs, many = T::spread > 1 ? 4 : 1;
  for (int i = rank * block_threads + static_cast<int>(threadIdx.x); i < results / many * T::rows;
       i += T::spread * block_threads) {
    const int place_row = i / (results / many), at = i % (results / many) * many;
    const int row = first_row + place_row;
    if (row >= p.rows) break;
    float first[many];
    if constexpr (in_pairs) {
      const int place = at / 8 * 16 + at % 8;
      float second[many], scale = 1;
      sum_slices<T>(first, partial, place_row, place);
      sum_slices<T>(second, partial, place_row, place + 8);
      if constexpr (normed) scale = T::spread > 1 ? scales[place_row] : scale_of<T>(p, partial, place_row);
#pragma unroll
      for (int j = 0; j < many; ++j) {
        const int output = tile * results + at + j;
        if (output >= p.outputs / 2) break;
        store_pair<result>(p, row, output, __float2bfloat16_rn(first[j] * scale),
                           __float2bfloat16_rn(second[j] * scale));
      }
    } else {
      sum_slices<T>(first, partial, place_row, at);
#pragma unroll
      for (int j = 0; j < many; ++j) {
        const int output = tile * results + at + j;
        if (output >= p.outputs) break;
        const std::int64_t to = static_cast<std::int64_t>(row) * p.outputs + output;
        if constexpr (result == Result::f32)
          static_cast<float*>(p.out)[to] = first[j];
        else
          static_cast<__nv_bfloat16*>(p.out)[to] =
              __float2bfloat16_rn(p.residual ? first[j] + to_float(p.residual[to]) : first[j]);
      }
    }
  }
  if constexpr (T::spread > 1) cluster_barrier_relaxed();  // other blocks may still read this block's sums
}

/// Calls f with the kind of results and whether rows are normed as compile-time constants.
template <class F>
void dispatch(const Problem& p, bool wide, F f) {
  using std::integral_constant, std::true_type, std::false_type;
  if (p.heads) return f(integral_constant<Result, Result::heads>{}, true_type{});
  if (p.gated && p.norm) return f(integral_constant<Result, Result::gated>{}, true_type{});
  if (p.gated) return f(integral_constant<Result, Result::gated>{}, false_type{});
  if (wide) return f(integral_constant<Result, Result::f32>{}, false_type{});
  return f(integral_constant<Result, Result::bf16>{}, false_type{});
}

}  // namespace foretoken::cuda::few_rows
