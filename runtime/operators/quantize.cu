#include <cuda_fp8.h>

#include "runtime/cuda/context.h"
#include "runtime/cuda/device.cuh"
#include "runtime/cuda/matmul.h"
#include "runtime/operators/quantize.h"
#include "runtime/operators/quantize_scale.h"

namespace foretoken::cuda {

namespace {

constexpr int threads = 256;
constexpr int tile = 128;  // rows and columns of a block's tile
constexpr int piece = 8;   // rows and columns of a thread's part of it
constexpr int pieces = tile / piece;

struct E4M3 {
  static constexpr __nv_fp8_interpretation_t kind = __NV_E4M3;
  static constexpr float largest = Float8E4M3::largest;
};
struct E5M2 {
  static constexpr __nv_fp8_interpretation_t kind = __NV_E5M2;
  static constexpr float largest = Float8E5M2::largest;
};

template <class F>
__device__ std::uint32_t four(float a, float b, float c, float d) {
  const std::uint32_t low = __nv_cvt_float2_to_fp8x2(make_float2(a, b), __NV_SATFINITE, F::kind);
  const std::uint32_t high = __nv_cvt_float2_to_fp8x2(make_float2(c, d), __NV_SATFINITE, F::kind);
  return low | high << 16;
}

/// Eight numbers at(0) … at(7), as they lie in memory.
template <class F, class At>
__device__ uint2 eight(const At& at) {
  return {four<F>(at(0), at(1), at(2), at(3)), four<F>(at(4), at(5), at(6), at(7))};
}

template <int width>
__device__ float lanes_max(float x) {
#pragma unroll
  for (int offset = width / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(full_warp, x, offset));
  return x;
}

/// A matrix x [R, K] and where its copies go; null where one is not asked for.
template <class T>
struct Matrix {
  const T* x;
  std::int64_t rows, columns;
  std::uint8_t *out, *transposed;
  float *out_scales, *transposed_scales;
  std::int64_t out_stride, transposed_stride;  // of block scales: elements from one row of them to the next
  const float* amax;                           // of tensor scales
};

/// *amax = max |x|. A magnitude's bits are in the order of the magnitudes.
template <class T>
__global__ void largest_magnitude(const T* x, std::int64_t count, float* amax) {
  constexpr int pack = lane_elements<T>;
  float largest = 0;
  for (std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x) * pack; i < count;
       i += static_cast<std::int64_t>(gridDim.x) * threads * pack) {
    const Pack<T, pack> values = load<pack>(x + i);
#pragma unroll
    for (int j = 0; j < pack; ++j) largest = fmaxf(largest, fabsf(to_float(values.at[j])));
  }
  largest = lanes_max<32>(largest);
  if (threadIdx.x % 32 == 0) atomicMax(reinterpret_cast<int*>(amax), __float_as_int(largest));
}

/// A block quantises a tile of 128 × 128 elements, read once: a thread holds 8 × 8 of them in registers, and
/// sixteen neighbouring threads hold eight whole rows of the tile, so that all memory is read and written in
/// runs of 128 elements. The transposed tile is put together in shared memory, in pieces of 8 bytes whose
/// place is turned by the column, so that neither the pieces of a row nor those of a column share banks.
template <class T, class F, Scaling scaling>
__global__ void __launch_bounds__(threads) quantize_tile(const Matrix<T> m) {
  __shared__ float column_parts[threads / 32][tile];
  __shared__ float column_inverse[tile];
  __shared__ uint2 turned[tile][pieces];
  const int group = static_cast<int>(threadIdx.x) / pieces, lane = static_cast<int>(threadIdx.x) % pieces;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const std::int64_t row0 = static_cast<std::int64_t>(blockIdx.y) * tile,
                     column0 = static_cast<std::int64_t>(blockIdx.x) * tile;
  const std::int64_t row = row0 + group * piece, column = column0 + lane * piece;
  const bool inside = row < m.rows && column < m.columns;

  float x[piece][piece];
#pragma unroll
  for (int r = 0; r < piece; ++r) {
    Pack<T, piece> values{};
    if (inside) values = load<piece>(m.x + (row + r) * m.columns + column);
#pragma unroll
    for (int c = 0; c < piece; ++c) x[r][c] = inside ? to_float(values.at[c]) : 0.0F;
  }

  float tile_inverse = 0;  // of the two scalings whose tile has one scale
  if constexpr (scaling == Scaling::tensor) {
    const GroupScale scale(*m.amax, F::largest);
    tile_inverse = scale.inverse;
    if (blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0) {
      if (m.out) m.out_scales[0] = scale.scale;
      if (m.transposed) {
        m.transposed_scales[0] = scale.scale;
        m.transposed_scales[1] = *m.amax;
      }
    }
  }
  if constexpr (scaling == Scaling::block128) {
    float largest = 0;
#pragma unroll
    for (int r = 0; r < piece; ++r)
#pragma unroll
      for (int c = 0; c < piece; ++c) largest = fmaxf(largest, fabsf(x[r][c]));
    largest = lanes_max<32>(largest);
    if (threadIdx.x % 32 == 0) column_parts[warp][0] = largest;
    __syncthreads();
#pragma unroll
    for (int w = 0; w < threads / 32; ++w) largest = fmaxf(largest, column_parts[w][0]);
    const GroupScale scale(largest, F::largest);
    tile_inverse = scale.inverse;
    if (threadIdx.x == 0) {
      if (m.out) m.out_scales[blockIdx.y * m.out_stride + blockIdx.x] = scale.scale;
      if (m.transposed) m.transposed_scales[blockIdx.x * m.transposed_stride + blockIdx.y] = scale.scale;
    }
  }

  if (m.out) {
#pragma unroll
    for (int r = 0; r < piece; ++r) {
      float inverse = tile_inverse;
      if constexpr (scaling == Scaling::vector128) {
        float largest = 0;
#pragma unroll
        for (int c = 0; c < piece; ++c) largest = fmaxf(largest, fabsf(x[r][c]));
        const GroupScale scale(lanes_max<pieces>(largest), F::largest);
        inverse = scale.inverse;
        if (inside && lane == 0) m.out_scales[blockIdx.x * m.rows + row + r] = scale.scale;
      }
      const uint2 packed = eight<F>([&](int c) { return x[r][c] * inverse; });
      if (inside) *reinterpret_cast<uint2*>(m.out + (row + r) * m.columns + column) = packed;
    }
  }
  if (!m.transposed) return;

  if constexpr (scaling == Scaling::vector128) {
#pragma unroll
    for (int c = 0; c < piece; ++c) {
      float largest = 0;
#pragma unroll
      for (int r = 0; r < piece; ++r) largest = fmaxf(largest, fabsf(x[r][c]));
      largest = fmaxf(largest, __shfl_xor_sync(full_warp, largest, pieces));  // the warp's other rows
      if (threadIdx.x % 32 < pieces) column_parts[warp][lane * piece + c] = largest;
    }
    __syncthreads();
    if (threadIdx.x < tile) {
      float largest = 0;
#pragma unroll
      for (int w = 0; w < threads / 32; ++w) largest = fmaxf(largest, column_parts[w][threadIdx.x]);
      const GroupScale scale(largest, F::largest);
      column_inverse[threadIdx.x] = scale.inverse;
      if (column0 + threadIdx.x < m.columns)
        m.transposed_scales[blockIdx.y * m.columns + column0 + threadIdx.x] = scale.scale;
    }
    __syncthreads();
  }
#pragma unroll
  for (int c = 0; c < piece; ++c) {
    float inverse = tile_inverse;
    if constexpr (scaling == Scaling::vector128) inverse = column_inverse[lane * piece + c];
    turned[lane * piece + c][group ^ lane] = eight<F>([&](int r) { return x[r][c] * inverse; });
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < tile / pieces; ++i) {
    const int c = i * pieces + group;
    const std::int64_t to_row = column0 + c, to_column = row0 + lane * piece;
    if (to_row < m.columns && to_column < m.rows)
      *reinterpret_cast<uint2*>(m.transposed + to_row * m.rows + to_column) = turned[c][lane ^ (c / piece)];
  }
}

template <class T, class F>
void launch(cudaStream_t stream, Scaling scaling, const Matrix<T>& m) {
  const dim3 blocks(blocks_for(m.columns, tile), blocks_for(m.rows, tile));
  switch (scaling) {
    case Scaling::tensor:
      return quantize_tile<T, F, Scaling::tensor><<<blocks, threads, 0, stream>>>(m);
    case Scaling::vector128:
      return quantize_tile<T, F, Scaling::vector128><<<blocks, threads, 0, stream>>>(m);
    case Scaling::block128:
      return quantize_tile<T, F, Scaling::block128><<<blocks, threads, 0, stream>>>(m);
  }
}

}  // namespace

void quantize(Stream& stream, const Quantize& op) {
  const QuantizedTensor& any = op.out.defined() ? op.out : op.transposed;
  if (!any.defined() || op.x.elements() == 0) return;
  const cudaStream_t on = stream.cuda().stream();
  const auto bytes = [](const QuantizedTensor& to) { return static_cast<std::uint8_t*>(to.data.data); };
  const auto scales = [](const QuantizedTensor& to) { return static_cast<float*>(to.scales.data); };
  const auto stride = [](const QuantizedTensor& to) {
    return to.scaling == Scaling::block128 ? to.scales.shape[1] : 0;
  };
  with_activation("quantize", op.x.dtype, [&]<class T>() {
    Matrix<T> m{.x = static_cast<const T*>(op.x.data),
                .rows = op.x.shape[0],
                .columns = op.x.shape[1],
                .out = bytes(op.out),
                .transposed = bytes(op.transposed),
                .out_scales = scales(op.out),
                .transposed_scales = scales(op.transposed),
                .out_stride = stride(op.out),
                .transposed_stride = stride(op.transposed),
                .amax = nullptr};
    if (any.scaling == Scaling::tensor) {
      float* amax = scales(any) + 1;
      check(cudaMemsetAsync(amax, 0, sizeof(float), on), "quantize");
      const std::int64_t count = op.x.elements();
      const unsigned blocks = std::min(blocks_for(count, threads * lane_elements<T>),
                                       static_cast<unsigned>(8 * stream.cuda().multiprocessors()));
      largest_magnitude<<<blocks, threads, 0, on>>>(m.x, count, amax);
      m.amax = amax;
    }
    if (any.data.dtype == DType::f8e4m3)
      launch<T, E4M3>(on, any.scaling, m);
    else
      launch<T, E5M2>(on, any.scaling, m);
  });
  check_launch("quantize");
}

void quantized_product(Stream& stream, const QuantizedProduct& op) {
  stream.cuda().matmul().run({.transpose_b = true,
                              .m = op.a.data.shape[0],
                              .n = op.b.data.shape[0],
                              .k = op.a.data.shape[1],
                              .a = op.a.data,
                              .b = op.b.data,
                              .a_scales = {op.a.scales, op.a.scaling},
                              .b_scales = {op.b.scales, op.b.scaling},
                              .fast_accumulation = op.fast_accumulation,
                              .c = op.addend,
                              .d = op.out});
}

}  // namespace foretoken::cuda
