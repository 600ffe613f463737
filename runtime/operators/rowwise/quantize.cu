#include <cuda_fp8.h>

#include "runtime/cuda/context.h"
#include "runtime/cuda/device.cuh"
#include "runtime/cuda/reduce.cuh"
#include "runtime/operators/rowwise/quantize.h"
#include "runtime/operators/rowwise/quantize_scale.h"
#include "runtime/operators/rowwise/swiglu.cuh"

namespace foretoken::cuda {

namespace {

constexpr int threads = 256;
constexpr int tile = 128;  // rows and columns of a block's tile
constexpr int piece = 8;   // rows and columns of a thread's part of the tile
constexpr int pieces = tile / piece;

struct E4M3 {
  static constexpr __nv_fp8_interpretation_t kind = __NV_E4M3;
  static constexpr float largest = Float8E4M3::largest;
};
struct E5M2 {
  static constexpr __nv_fp8_interpretation_t kind = __NV_E5M2;
  static constexpr float largest = Float8E5M2::largest;
};

/// Converts four values to 8-bit numbers of format F, saturated, in memory order.
template <class F>
__device__ std::uint32_t four(float a, float b, float c, float d) {
  const std::uint32_t low = __nv_cvt_float2_to_fp8x2(make_float2(a, b), __NV_SATFINITE, F::kind);
  const std::uint32_t high = __nv_cvt_float2_to_fp8x2(make_float2(c, d), __NV_SATFINITE, F::kind);
  return low | high << 16;
}

/// Converts the values at(0) … at(7) to 8-bit numbers of format F, in memory order.
template <class F, class At>
__device__ uint2 eight(const At& at) {
  return {four<F>(at(0), at(1), at(2), at(3)), four<F>(at(4), at(5), at(6), at(7))};
}

/// The largest x of `width` neighbouring lanes.
template <int width>
__device__ float lanes_max(float x) {
#pragma unroll
  for (int offset = width / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(full_warp, x, offset));
  return x;
}

/// Rounds x to T, the dtype that the value would be stored in.
template <class T>
__device__ float rounded(float x) {
  return to_float(from_float<T>(x));
}

// Sources of a matrix to quantize. row(r, c, to) reads or computes the eight elements of row r from column c
// on. magnitude(r, c) returns the largest magnitude of the elements that depend on columns c to c + 7 of the
// inputs: these eight elements, or sixteen for the gradient of gate and up. A row of the inputs has `width`
// columns.

/// magnitude() for a source whose row() returns all elements that depend on these columns.
template <class Source>
__device__ float row_magnitude(const Source& source, std::int64_t row, std::int64_t column) {
  float values[piece], largest = 0;
  source.row(row, column, values);
#pragma unroll
  for (int c = 0; c < piece; ++c) largest = fmaxf(largest, fabsf(values[c]));
  return largest;
}

template <class T>
struct Stored {
  const T* x;  // [R, width]
  std::int64_t width;

  __device__ void row(std::int64_t row, std::int64_t column, float (&to)[piece]) const {
    const Pack<T, piece> values = load<piece>(x + row * width + column);
#pragma unroll
    for (int c = 0; c < piece; ++c) to[c] = to_float(values.at[c]);
  }
  __device__ float magnitude(std::int64_t row, std::int64_t column) const {
    return row_magnitude(*this, row, column);
  }
};

template <class T>
struct StoredSwigluOutput {
  const T* gate_up;    // [N, 2F]
  std::int64_t width;  // F

  __device__ void row(std::int64_t row, std::int64_t column, float (&to)[piece]) const {
    const T* from = gate_up + row * 2 * width + column;
    const Pack<T, piece> gate = load<piece>(from), up = load<piece>(from + width);
#pragma unroll
    for (int c = 0; c < piece; ++c) to[c] = rounded<T>(Silu(to_float(gate.at[c])).value * to_float(up.at[c]));
  }
  __device__ float magnitude(std::int64_t row, std::int64_t column) const {
    return row_magnitude(*this, row, column);
  }
};

template <class T>
struct StoredSwigluGradient {
  const T *dout, *gate_up;  // [N, F], [N, 2F]
  std::int64_t width;       // F

  __device__ static float gate_gradient(float dout, float gate, float up) {
    return rounded<T>(dout * up * Silu(gate).derivative());
  }
  __device__ static float up_gradient(float dout, float gate) { return rounded<T>(dout * Silu(gate).value); }

  __device__ void row(std::int64_t row, std::int64_t column, float (&to)[piece]) const {
    const bool of_gate = column < width;
    if (!of_gate) column -= width;
    const T* from = gate_up + row * 2 * width + column;
    const Pack<T, piece> d = load<piece>(dout + row * width + column), gate = load<piece>(from);
    Pack<T, piece> up{};
    if (of_gate) up = load<piece>(from + width);
#pragma unroll
    for (int c = 0; c < piece; ++c)
      to[c] = of_gate ? gate_gradient(to_float(d.at[c]), to_float(gate.at[c]), to_float(up.at[c]))
                      : up_gradient(to_float(d.at[c]), to_float(gate.at[c]));
  }
  __device__ float magnitude(std::int64_t row, std::int64_t column) const {
    const T* from = gate_up + row * 2 * width + column;
    const Pack<T, piece> d = load<piece>(dout + row * width + column), gate = load<piece>(from),
                         up = load<piece>(from + width);
    float largest = 0;
#pragma unroll
    for (int c = 0; c < piece; ++c) {
      const float dc = to_float(d.at[c]), gc = to_float(gate.at[c]);
      largest = fmaxf(largest, fabsf(gate_gradient(dc, gc, to_float(up.at[c]))));
      largest = fmaxf(largest, fabsf(up_gradient(dc, gc)));
    }
    return largest;
  }
};

/// A matrix [R, K] and the addresses of its quantized copies; null if a copy is not requested.
template <class Source>
struct Matrix {
  Source x;
  std::int64_t rows, columns;
  std::uint8_t *out, *transposed;
  float *out_scales, *transposed_scales;
  std::int64_t out_stride, transposed_stride;  // elements between rows of block scales
  const float* amax;                           // largest magnitude, for tensor scales
};

/// *amax = max |x|. *amax must be 0 before the launch. `packs` is the number of runs of eight columns in all
/// rows, fewer than 2³¹; a thread owns every gridDim.x · threads-th of them.
template <class Source>
__global__ void largest_magnitude(const Source x, std::uint32_t packs, float* amax) {
  const auto packs_of_row = static_cast<std::uint32_t>(x.width / piece);
  float largest = 0;
  for (std::uint32_t i = blockIdx.x * threads + threadIdx.x; i < packs; i += gridDim.x * threads)
    largest = fmaxf(largest, x.magnitude(i / packs_of_row, i % packs_of_row * piece));
  raise_amax(amax, largest);
}

using Elements = float[piece][piece];

/// A thread's part of the block's tile: rows [row, row + piece) and columns [column, column + piece).
struct Part {
  int warp = static_cast<int>(threadIdx.x) / 32;
  int group = static_cast<int>(threadIdx.x) / pieces, lane = static_cast<int>(threadIdx.x) % pieces;
  std::int64_t row0 = static_cast<std::int64_t>(blockIdx.y) * tile,
               column0 = static_cast<std::int64_t>(blockIdx.x) * tile;
  std::int64_t row = row0 + group * piece, column = column0 + lane * piece;
};

/// Stores the scale of the whole matrix and returns its inverse.
template <class F, class Source>
__device__ __forceinline__ float scale_tensor(const Matrix<Source>& m) {
  const GroupScale scale(*m.amax, F::largest);
  if (blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0) {
    if (m.out) m.out_scales[0] = scale.scale;
    if (m.transposed) {
      m.transposed_scales[0] = scale.scale;
      m.transposed_scales[1] = *m.amax;
    }
  }
  return scale.inverse;
}

/// Stores the scale of the block's tile and returns its inverse.
template <class F, class Source>
__device__ __forceinline__ float scale_block(const Matrix<Source>& m, const Elements& x, const Part& part,
                                             float (&column_parts)[threads / 32][tile]) {
  float largest = 0;
#pragma unroll
  for (int r = 0; r < piece; ++r)
#pragma unroll
    for (int c = 0; c < piece; ++c) largest = fmaxf(largest, fabsf(x[r][c]));
  largest = lanes_max<32>(largest);
  if (threadIdx.x % 32 == 0) column_parts[part.warp][0] = largest;
  __syncthreads();
#pragma unroll
  for (int w = 0; w < threads / 32; ++w) largest = fmaxf(largest, column_parts[w][0]);
  const GroupScale scale(largest, F::largest);
  if (threadIdx.x == 0) {
    if (m.out) m.out_scales[blockIdx.y * m.out_stride + blockIdx.x] = scale.scale;
    if (m.transposed) m.transposed_scales[blockIdx.x * m.transposed_stride + blockIdx.y] = scale.scale;
  }
  return scale.inverse;
}

/// Stores the scales of the tile's columns, and their inverses in column_inverse.
template <class F, class Source>
__device__ __forceinline__ void scale_columns(const Matrix<Source>& m, const Elements& x, const Part& part,
                                              float (&column_parts)[threads / 32][tile],
                                              float (&column_inverse)[tile]) {
#pragma unroll
  for (int c = 0; c < piece; ++c) {
    float largest = 0;
#pragma unroll
    for (int r = 0; r < piece; ++r) largest = fmaxf(largest, fabsf(x[r][c]));
    largest = fmaxf(largest, __shfl_xor_sync(full_warp, largest, pieces));  // the other half warp
    if (threadIdx.x % 32 < pieces) column_parts[part.warp][part.lane * piece + c] = largest;
  }
  __syncthreads();
  if (threadIdx.x < tile) {
    float largest = 0;
#pragma unroll
    for (int w = 0; w < threads / 32; ++w) largest = fmaxf(largest, column_parts[w][threadIdx.x]);
    const GroupScale scale(largest, F::largest);
    column_inverse[threadIdx.x] = scale.inverse;
    if (part.column0 + threadIdx.x < m.columns)
      m.transposed_scales[blockIdx.y * m.columns + part.column0 + threadIdx.x] = scale.scale;
  }
  __syncthreads();
}

/// Writes the transposed tile, which is in shared memory, in whole rows.
template <class Source>
__device__ __forceinline__ void store_transposed(const Matrix<Source>& m, const Part& part,
                                                 const uint2 (&transposed)[tile][pieces]) {
#pragma unroll
  for (int i = 0; i < tile / pieces; ++i) {
    const int c = i * pieces + part.group;
    const std::int64_t to_row = part.column0 + c, to_column = part.row0 + part.lane * piece;
    if (to_row < m.columns && to_column < m.rows)
      *reinterpret_cast<uint2*>(m.transposed + to_row * m.rows + to_column) =
          transposed[c][part.lane ^ (c / piece)];
  }
}

/// out = x / scale and transposed = xᵀ / scale, rounded to format F, with the scales that `scaling` defines.
///
/// A block owns a tile of 128 × 128 elements, which it reads once. A thread holds 8 × 8 of them in registers,
/// and sixteen neighbouring threads hold eight whole rows of the tile, so that memory is read and written in
/// runs of 128 elements. The transposed tile is assembled in shared memory in pieces of 8 bytes. A piece's
/// position in its row is XORed with the column's number / 8, so that neither the pieces of a row nor the
/// pieces of a column conflict in a bank. Shared memory also holds each warp's largest magnitudes by column.
template <class Source, class F, Scaling scaling>
__global__ void __launch_bounds__(threads) quantize_tile(const Matrix<Source> m) {
  __shared__ float column_parts[threads / 32][tile];
  __shared__ float column_inverse[tile];
  __shared__ uint2 transposed[tile][pieces];
  const Part part;
  const bool inside = part.row < m.rows && part.column < m.columns;

  Elements x;
#pragma unroll
  for (int r = 0; r < piece; ++r) {
#pragma unroll
    for (int c = 0; c < piece; ++c) x[r][c] = 0;
    if (inside) m.x.row(part.row + r, part.column, x[r]);
  }

  float tile_inverse = 0;  // of scalings `tensor` and `block128`, which have one scale per tile
  if constexpr (scaling == Scaling::tensor) tile_inverse = scale_tensor<F>(m);
  if constexpr (scaling == Scaling::block128) tile_inverse = scale_block<F>(m, x, part, column_parts);

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
        if (inside && part.lane == 0) m.out_scales[blockIdx.x * m.rows + part.row + r] = scale.scale;
      }
      const uint2 packed = eight<F>([&](int c) { return x[r][c] * inverse; });
      if (inside) *reinterpret_cast<uint2*>(m.out + (part.row + r) * m.columns + part.column) = packed;
    }
  }
  if (!m.transposed) return;

  if constexpr (scaling == Scaling::vector128) scale_columns<F>(m, x, part, column_parts, column_inverse);
#pragma unroll
  for (int c = 0; c < piece; ++c) {
    float inverse = tile_inverse;
    if constexpr (scaling == Scaling::vector128) inverse = column_inverse[part.lane * piece + c];
    transposed[part.lane * piece + c][part.group ^ part.lane] =
        eight<F>([&](int r) { return x[r][c] * inverse; });
  }
  __syncthreads();
  store_transposed(m, part, transposed);
}

template <class Source, class F>
void launch(cudaStream_t stream, Scaling scaling, const Matrix<Source>& m) {
  const dim3 blocks(blocks_for(m.columns, tile), blocks_for(m.rows, tile));
  switch (scaling) {
    case Scaling::tensor:
      return quantize_tile<Source, F, Scaling::tensor><<<blocks, threads, 0, stream>>>(m);
    case Scaling::vector128:
      return quantize_tile<Source, F, Scaling::vector128><<<blocks, threads, 0, stream>>>(m);
    case Scaling::block128:
      return quantize_tile<Source, F, Scaling::block128><<<blocks, threads, 0, stream>>>(m);
  }
}

/// `known_amax` is the largest magnitude if the producer has computed it, else null.
template <class Source>
void quantize_from(Context& gpu, const Source& x, const float* known_amax, const Quantize& op) {
  const QuantizedTensor& any = op.out.defined() ? op.out : op.transposed;
  const std::int64_t rows = op.out.defined() ? any.data.shape[0] : any.data.shape[1],
                     columns = op.out.defined() ? any.data.shape[1] : any.data.shape[0];
  if (rows * columns == 0) return;
  const auto bytes = [](const QuantizedTensor& to) { return static_cast<std::uint8_t*>(to.data.data); };
  const auto scales = [](const QuantizedTensor& to) { return static_cast<float*>(to.scales.data); };
  const auto stride = [](const QuantizedTensor& to) {
    return to.scaling == Scaling::block128 ? to.scales.shape[1] : 0;
  };
  Matrix<Source> m{.x = x,
                   .rows = rows,
                   .columns = columns,
                   .out = bytes(op.out),
                   .transposed = bytes(op.transposed),
                   .out_scales = scales(op.out),
                   .transposed_scales = scales(op.transposed),
                   .out_stride = stride(op.out),
                   .transposed_stride = stride(op.transposed),
                   .amax = known_amax};
  if (any.scaling == Scaling::tensor && !known_amax) {
    float* amax = scales(any) + 1;
    check(cudaMemsetAsync(amax, 0, sizeof(float), gpu.stream()), "quantize");
    const std::int64_t packs = rows * x.width / piece;
    const unsigned blocks =
        std::min(blocks_for(packs, threads), static_cast<unsigned>(8 * gpu.multiprocessors()));
    largest_magnitude<<<blocks, threads, 0, gpu.stream()>>>(x, static_cast<std::uint32_t>(packs), amax);
    m.amax = amax;
  }
  if (any.data.dtype == DType::f8e4m3)
    launch<Source, E4M3>(gpu.stream(), any.scaling, m);
  else
    launch<Source, E5M2>(gpu.stream(), any.scaling, m);
}

}  // namespace

void quantize(Stream& stream, const Quantize& op) {
  if (!op.out.defined() && !op.transposed.defined()) return;
  Context& gpu = stream.cuda();
  const auto from = [&](DType dtype, const Tensor& amax, const auto& source) {
    with_activation("quantize", dtype, [&]<class T>() {
      quantize_from(gpu, source.template operator()<T>(), amax.as<float>(), op);
    });
  };
  const auto stored = [&](const Tensor& x, const Tensor& amax) {
    from(x.dtype, amax, [&]<class T>() { return Stored<T>{static_cast<const T*>(x.data), x.shape[1]}; });
  };
  if (const auto* x = std::get_if<Tensor>(&op.x)) {
    stored(*x, {});
  } else if (const auto* with_amax = std::get_if<TensorWithAmax>(&op.x)) {
    stored(with_amax->x, with_amax->amax);
  } else if (const auto* gated = std::get_if<SwigluOutput>(&op.x)) {
    from(gated->gate_up.dtype, {}, [&]<class T>() {
      return StoredSwigluOutput<T>{static_cast<const T*>(gated->gate_up.data), gated->gate_up.shape[1] / 2};
    });
  } else {
    const auto& [dout, gate_up] = std::get<SwigluInputGradient>(op.x);
    from(dout.dtype, {}, [&]<class T>() {
      return StoredSwigluGradient<T>{static_cast<const T*>(dout.data), static_cast<const T*>(gate_up.data),
                                     dout.shape[1]};
    });
  }
  check_launch("quantize");
}

}  // namespace foretoken::cuda
