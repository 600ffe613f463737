#pragma once
// Tiles of the generic kernels. These compute in f32 without tensor cores. They serve f32 tensors, and bf16
// tensors that the tensor-core kernels do not support.

#include <cmath>

#include "runtime/operators/attention/flash_attention_kernels.h"

namespace foretoken::cuda::flash {

constexpr int side = 16;  // a block is 16 × 16 threads
constexpr int generic_threads = side * side;

__device__ __forceinline__ float value_of(float x) {
  return x;
}
__device__ __forceinline__ float value_of(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
__device__ __forceinline__ void assign(float& to, float x) {
  to = x;
}
__device__ __forceinline__ void assign(__nv_bfloat16& to, float x) {
  to = __float2bfloat16_rn(x);
}

/// Tiles of `rows` rows and W columns in f32, in shared memory; smaller heads are padded with zeros. A row
/// takes W + 1 floats, an odd number, so that threads of neighbouring rows read from different banks. A
/// thread owns own_rows rows of a product, and own_rows or own_columns of its columns.
template <int W>
struct GenericTile {
  static constexpr int rows = W <= 128 ? 64 : 32;  // rows of queries and of keys; limited by shared memory
  static constexpr int own_rows = rows / side;
  static constexpr int own_columns = W / side;
  static constexpr int tile = rows * (W + 1);       // floats
  static constexpr int scores = rows * (rows + 1);  // floats

  using Scores = float[own_rows][own_rows];   // the thread's elements of a matrix of scores
  using Rows = float[own_rows][own_columns];  // the thread's elements of a tile
  int x = threadIdx.x % side, y = threadIdx.x / side;

  /// The thread's i-th row, and its j-th column, of a tile or of a matrix of scores.
  __device__ int row(int i) const { return y * own_rows + i; }
  __device__ int column(int j) const { return x + side * j; }

  /// Loads rows [first, first + rows) of a matrix of `dim` columns; rows from `end` on are zero.
  template <class T>
  __device__ static void load(float* to, const T* matrix, std::int64_t stride, int dim, int first, int end) {
    for (int i = threadIdx.x; i < rows * W; i += generic_threads) {
      const int row = i / W, column = i % W, t = first + row;
      to[row * (W + 1) + column] = t < end && column < dim ? value_of(matrix[t * stride + column]) : 0.0f;
    }
  }

  /// s[i][j] = row row(i) of tile a · row column(j) of tile b
  __device__ void row_products(Scores& s, const float* a, const float* b) const {
#pragma unroll
    for (auto& s_row : s)
#pragma unroll
      for (float& one : s_row) one = 0;
#pragma unroll 4
    for (int k = 0; k < W; ++k) {
      float a_k[own_rows], b_k[own_rows];
#pragma unroll
      for (int i = 0; i < own_rows; ++i) {
        a_k[i] = a[row(i) * (W + 1) + k];
        b_k[i] = b[column(i) * (W + 1) + k];
      }
#pragma unroll
      for (int i = 0; i < own_rows; ++i)
#pragma unroll
        for (int j = 0; j < own_rows; ++j) s[i][j] = fmaf(a_k[i], b_k[j], s[i][j]);
    }
  }

  /// Stores the thread's scores in a matrix of scores in shared memory.
  __device__ void keep_scores(float* to, const Scores& s) const {
#pragma unroll
    for (int i = 0; i < own_rows; ++i)
#pragma unroll
      for (int j = 0; j < own_rows; ++j) to[row(i) * (rows + 1) + column(j)] = s[i][j];
  }

  /// d[i][j] += Σₖ w[row(i), k] · b[k, column(j)], where w is the matrix of scores `weights` or its
  /// transpose.
  template <bool transposed>
  __device__ void weighted_rows(Rows& d, const float* weights, const float* b) const {
#pragma unroll 2
    for (int k = 0; k < rows; ++k) {
      float w[own_rows], b_k[own_columns];
#pragma unroll
      for (int i = 0; i < own_rows; ++i)
        w[i] = transposed ? weights[k * (rows + 1) + row(i)] : weights[row(i) * (rows + 1) + k];
#pragma unroll
      for (int j = 0; j < own_columns; ++j) b_k[j] = b[k * (W + 1) + column(j)];
#pragma unroll
      for (int i = 0; i < own_rows; ++i)
#pragma unroll
        for (int j = 0; j < own_columns; ++j) d[i][j] = fmaf(w[i], b_k[j], d[i][j]);
    }
  }

  /// Writes d[i][j] · scale[i] to rows [first, first + rows) of a matrix of `dim` columns. Rows from `end` on
  /// are not written.
  template <class T>
  __device__ void store(T* matrix, std::int64_t stride, int dim, int first, int end, const Rows& d,
                        const float (&scale)[own_rows]) const {
#pragma unroll
    for (int i = 0; i < own_rows; ++i)
#pragma unroll
      for (int j = 0; j < own_columns; ++j)
        if (first + row(i) < end && column(j) < dim)
          assign(matrix[(first + row(i)) * stride + column(j)], d[i][j] * scale[i]);
  }
};

/// Calls f<W>() for the narrowest tile that holds the heads.
template <class F>
void with_width(int dim, F f) {
  if (dim <= 64) return f.template operator()<64>();
  if (dim <= 128) return f.template operator()<128>();
  return f.template operator()<256>();
}

}  // namespace foretoken::cuda::flash
