#include "runtime/cuda/context.h"
#include "runtime/cuda/overlap.cuh"
#include "runtime/cuda/warp_product.cuh"
#include "runtime/operators/products/few_rows_by_warpgroups.h"
#include "runtime/operators/products/few_rows_operands.cuh"
#include "runtime/operators/products/few_rows_results.cuh"
#include "runtime/operators/products/linear.h"

namespace foretoken::cuda::few_rows {

namespace {

/// Division of the work: a block computes 16 outputs for all rows, each of its eight warps over a slice of I.
template <int rows_>
struct Tiling {
  static constexpr int rows = rows_, outputs = 16, spread = 1;
  static constexpr int pitch = outputs + 4;  // floats per row of partial sums; avoids bank conflicts
};

/// out = x · Wᵀ for up to 16 rows (few_rows_linear.h), by mma: W is operand A [16 outputs × 16], x is operand
/// B [16 × 8 rows].
///
/// A block owns 16 outputs and all rows, a warp a slice of I. A sum over I may run in any order that both
/// operands share, so lane 4g + t loads elements 8t .. 8t+7 of a step's 32, of rows g and g + 8 of W and of
/// row g of x, 16 bytes each, from memory directly to the registers of mma. The first four elements of all
/// lanes form the first product of depth 16, the other four the second. Shared memory: the warps' partial
/// sums, added in finish(). With a norm, x is multiplied by its weight, and the sum of x² is stored in an
/// extra column of the partial sums.
template <class T, Result result, bool normed>
__global__ void __launch_bounds__(block_threads, 2) multiply_rows(const Arguments p) {
  // octets: groups of eight rows. ahead: 16-byte pieces of each row of W that a thread loads in advance.
  // batch: steps whose x is loaded at the same time.
  constexpr int octets = T::rows / 8, ahead = 8, batch = octets == 1 ? 4 : 2;
  __shared__ float partial[slices * T::rows * T::pitch];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int g = lane / 4, t = lane % 4;
  const int tile16 = static_cast<int>(blockIdx.x), slice = warp;
  const int steps = (p.inputs + depth - 1) / depth;
  const int begin = steps * slice / slices, end = steps * (slice + 1) / slices;

  const auto at_begin = [&](const __nv_bfloat16* matrix, int row) {
    return matrix + static_cast<std::int64_t>(row) * p.inputs + begin * depth + 8 * t;
  };
  const __nv_bfloat16* weights[2] = {at_begin(p.weight, weight_row<result>(p, tile16, g)),
                                     at_begin(p.weight, weight_row<result>(p, tile16, g + 8))};
  const __nv_bfloat16* rows = at_begin(p.x, g);
  // Steps for which this lane has elements: rows may end before the last step's 32 elements do.
  const int count = min(end, (p.inputs - 8 * t + depth - 1) / depth) - begin;

  launch_dependents();
  uint4 w[ahead][2];
  const auto load_first = [&](auto filled) {
#pragma unroll
    for (int i = 0; i < ahead; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half) w[i][half] = load_weight(weights[half] + i * depth, filled(i));
  };
  if (count >= ahead)  // the usual case: all loads are issued before the wait
    load_first([](int) { return true; });
  else
    load_first([&](int i) { return i < count; });
  wait_for_earlier_work();

  const __nv_bfloat16* norms = normed ? p.norm + begin * depth + 8 * t : nullptr;
  float d[octets][4] = {}, squares[octets] = {};
  for (int first = 0; first < end - begin; first += ahead) {
#pragma unroll
    for (int i = 0; i < ahead; i += batch) {
      if (first + i >= end - begin) break;
      uint4 x[batch][octets];
#pragma unroll
      for (int j = 0; j < batch; ++j)
#pragma unroll
        for (int octet = 0; octet < octets; ++octet)
          x[j][octet] = load_row(rows + (octet * 8 * p.inputs + (i + j) * depth),
                                 octet * 8 + g < p.rows && first + i + j < count);
      if constexpr (normed) {
        uint4 norm[batch];
#pragma unroll
        for (int j = 0; j < batch; ++j) norm[j] = load_row(norms + (i + j) * depth, first + i + j < count);
#pragma unroll
        for (int j = 0; j < batch; ++j)
#pragma unroll
          for (int octet = 0; octet < octets; ++octet) {
            add_squares(squares[octet], x[j][octet]);
            x[j][octet] = scaled(x[j][octet], norm[j]);
          }
      }
#pragma unroll
      for (int j = 0; j < batch; ++j) {
        uint4(&a)[2] = w[i + j];
#pragma unroll
        for (int octet = 0; octet < octets; ++octet) {
          const uint4& b = x[j][octet];
          multiply(d[octet], a[0].x, a[1].x, a[0].y, a[1].y, b.x, b.y);
          multiply(d[octet], a[0].z, a[1].z, a[0].w, a[1].w, b.z, b.w);
        }
#pragma unroll
        for (int half = 0; half < 2; ++half)
          a[half] = load_weight(weights[half] + (i + j + ahead) * depth, first + i + j + ahead < count);
      }
    }
    weights[0] += ahead * depth;
    weights[1] += ahead * depth;
    rows += ahead * depth;
    if constexpr (normed) norms += ahead * depth;
  }

  float* own = partial + slice * T::rows * T::pitch + g;
#pragma unroll
  for (int octet = 0; octet < octets; ++octet) {
    float* at = own + (octet * 8 + 2 * t) * T::pitch;
    at[0] = d[octet][0];
    at[T::pitch] = d[octet][1];
    at[8] = d[octet][2];
    at[T::pitch + 8] = d[octet][3];
  }
  if constexpr (normed)
#pragma unroll
    for (int octet = 0; octet < octets; ++octet) {
      const float of_row = squares_of_lanes(squares[octet]);
      if (t == 0) partial[(slice * T::rows + octet * 8 + g) * T::pitch + T::outputs] = of_row;
    }
  finish<T, result, normed>(p, partial, 0, tile16, 0);
}

template <int rows, Result result, bool normed>
void launch(cudaStream_t stream, const Problem& p) {
  launch_overlapped(stream, multiply_rows<Tiling<rows>, result, normed>,
                    {.grid = dim3(blocks_for(p.outputs, Tiling<rows>::outputs)), .threads = block_threads},
                    Arguments{p, p.heads ? *p.heads : Heads{}});
}

}  // namespace

bool fits(const Tensor& x, const Tensor& weight, std::int64_t rows) {
  for (const Tensor& tensor : {x, weight})
    if (tensor.dtype != DType::bf16 || !tensor.is_aligned()) return false;
  return rows <= most_few_rows && weight.shape[1] % 8 == 0;
}

void linear(Stream& stream, const Problem& p, bool wide) {
  if (p.rows == 0 || p.outputs == 0) return;
  if (p.rows > 16) return linear_by_warpgroups(stream, p, wide);
  dispatch(p, wide, [&](auto result, auto normed) {
    const cudaStream_t on = stream.cuda().stream();
    if (p.rows <= 8)
      launch<8, result(), normed()>(on, p);
    else
      launch<16, result(), normed()>(on, p);
  });
}

}  // namespace foretoken::cuda::few_rows
