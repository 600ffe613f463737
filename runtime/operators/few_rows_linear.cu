#include <cooperative_groups.h>

#include "runtime/cuda/context.h"
#include "runtime/cuda/overlap.cuh"
#include "runtime/cuda/warp_product.cuh"
#include "runtime/operators/few_rows_linear.h"
#include "runtime/operators/swiglu.cuh"

namespace foretoken::cuda::few_rows {

namespace {

enum class Result { bf16, f32, gated };

constexpr int slices = 8;  // of I; fixed, since they make a sum's order
constexpr int depth = 32;  // of I that a warp takes in one step: four lanes with 16 bytes each
constexpr int block_threads = 32 * slices;

/// How the work is cut up. A block has 16·spread outputs and slices/spread slices of I, a warp 16 of these
/// outputs and one slice; the blocks of a cluster have the same outputs and the other slices. More rows
/// spread further, for then it is x that passes through a multiprocessor most often.
template <int octets_, int spread_>
struct Tiling {
  static constexpr int octets = octets_, rows = 8 * octets;
  static constexpr int spread = spread_, outputs = 16 * spread, slices_here = slices / spread;
  static constexpr int pitch = outputs + 4;  // of a row of partial sums: no two lanes meet in a bank
  // 16-byte pieces of each weight row that a thread has under way, and steps whose x is read together
  static constexpr int ahead = octets <= 2 ? 8 : 4, together = octets == 1 ? 4 : octets == 2 ? 2 : 1;
};

#define FORETOKEN_LOAD_16(from_memory)                                                            \
  uint4 x;                                                                                        \
  asm volatile(                                                                                   \
      "{\n.reg .pred p;\nsetp.ne.b32 p, %5, 0;\nmov.b32 %0, 0;\nmov.b32 %1, 0;\nmov.b32 %2, 0;\n" \
      "mov.b32 %3, 0;\n@p " from_memory " {%0, %1, %2, %3}, [%4];\n}\n"                           \
      : "=&r"(x.x), "=&r"(x.y), "=&r"(x.z), "=&r"(x.w)                                            \
      : "l"(from), "r"(int(filled)));                                                             \
  return x

/// 16 bytes, or zeros. A weight is read once and by nobody else: it passes by L1.
__device__ __forceinline__ uint4 load_weight(const __nv_bfloat16* from, bool filled) {
  FORETOKEN_LOAD_16("ld.global.nc.L1::no_allocate.L2::128B.v4.u32");
}

__device__ __forceinline__ uint4 load_row(const __nv_bfloat16* from, bool filled) {
  FORETOKEN_LOAD_16("ld.global.v4.u32");
}

#undef FORETOKEN_LOAD_16

/// The sum over all slices, in their order, of one place of the blocks' partial sums.
template <class T>
__device__ __forceinline__ float sum_slices(float* partial, int row, int output) {
  float sum = 0;
#pragma unroll
  for (int slice = 0; slice < slices; ++slice) {
    float* from = partial + (slice % T::slices_here * T::rows + row) * T::pitch + output;
    if constexpr (T::spread > 1)
      from = cooperative_groups::this_cluster().map_shared_rank(from, slice / T::slices_here);
    sum += *from;
  }
  return sum;
}

/// Tiles of [16 outputs × 8 rows]: W is the tensor cores' A, x their B. Which of a step's 32 elements of I
/// stand where within a product is free as long as both operands agree: lane 4g + t takes elements 8t .. 8t+7
/// of rows g and g + 8 of W and of row g of x, 16 bytes each, straight from memory to where mma wants them.
/// Where results are gated the tile's upper eight rows are gates and the lower eight their partners.
template <class T, Result result>
__global__ void __launch_bounds__(block_threads, 2) multiply_rows(const Problem p) {
  __shared__ float partial[T::slices_here * T::rows * T::pitch];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int g = lane / 4, t = lane % 4;
  const int rank = static_cast<int>(blockIdx.x) % T::spread, tile = static_cast<int>(blockIdx.x) / T::spread;
  const int tile16 = tile * T::spread + warp % T::spread;  // this warp's 16 outputs
  const int slice = rank * T::slices_here + warp / T::spread;
  const int steps = (p.inputs + depth - 1) / depth;
  const int begin = steps * slice / slices, end = steps * (slice + 1) / slices;

  // The last tile may reach past the end: its rows there repeat the last one, and nobody stores them.
  int upper = tile16 * 16 + g, lower = upper + 8;
  if constexpr (result == Result::gated) {
    upper = min(tile16 * 8 + g, p.outputs / 2 - 1);
    lower = p.outputs / 2 + upper;
  }
  const auto at_begin = [&](const __nv_bfloat16* matrix, int row) {
    return matrix + static_cast<std::int64_t>(row) * p.inputs + begin * depth + 8 * t;
  };
  const __nv_bfloat16* weights[2] = {at_begin(p.weight, min(upper, p.outputs - 1)),
                                     at_begin(p.weight, min(lower, p.outputs - 1))};
  const __nv_bfloat16* rows = at_begin(p.x, g);
  // This lane's steps: the last one may reach past the end of the rows.
  const int count = min(end, (p.inputs - 8 * t + depth - 1) / depth) - begin;

  let_next_begin();
  uint4 w[T::ahead][2];
  const auto load_first = [&](auto filled) {
#pragma unroll
    for (int i = 0; i < T::ahead; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half) w[i][half] = load_weight(weights[half] + i * depth, filled(i));
  };
  if (count >= T::ahead)  // mostly: all at once, before the wait
    load_first([](int) { return true; });
  else
    load_first([&](int i) { return i < count; });
  wait_for_earlier_work();

  float d[T::octets][4] = {};
  for (int first = 0; first < end - begin; first += T::ahead) {
#pragma unroll
    for (int i = 0; i < T::ahead; i += T::together) {
      if (first + i >= end - begin) break;
      uint4 x[T::together][T::octets];
#pragma unroll
      for (int j = 0; j < T::together; ++j)
#pragma unroll
        for (int octet = 0; octet < T::octets; ++octet)
          x[j][octet] = load_row(rows + (octet * 8 * p.inputs + (i + j) * depth),
                                 octet * 8 + g < p.rows && first + i + j < count);
#pragma unroll
      for (int j = 0; j < T::together; ++j) {
        uint4(&a)[2] = w[i + j];
#pragma unroll
        for (int octet = 0; octet < T::octets; ++octet) {
          const uint4& b = x[j][octet];
          multiply(d[octet], a[0].x, a[1].x, a[0].y, a[1].y, b.x, b.y);
          multiply(d[octet], a[0].z, a[1].z, a[0].w, a[1].w, b.z, b.w);
        }
#pragma unroll
        for (int half = 0; half < 2; ++half)
          a[half] = load_weight(weights[half] + (i + j + T::ahead) * depth, first + i + j + T::ahead < count);
      }
    }
    weights[0] += T::ahead * depth;
    weights[1] += T::ahead * depth;
    rows += T::ahead * depth;
  }

  float* own = partial + warp / T::spread * T::rows * T::pitch + warp % T::spread * 16 + g;
#pragma unroll
  for (int octet = 0; octet < T::octets; ++octet) {
    float* at = own + (octet * 8 + 2 * t) * T::pitch;
    at[0] = d[octet][0];
    at[T::pitch] = d[octet][1];
    at[8] = d[octet][2];
    at[T::pitch + 8] = d[octet][3];
  }
  const auto wait_for_partners = [] {
    if constexpr (T::spread > 1)
      cooperative_groups::this_cluster().sync();
    else
      __syncthreads();
  };
  wait_for_partners();
  constexpr int results = result == Result::gated ? T::outputs / 2 : T::outputs;
  for (int i = rank * block_threads + static_cast<int>(threadIdx.x); i < results * T::rows;
       i += T::spread * block_threads) {
    const int row = i / results, at = i % results, output = tile * results + at;
    if (row >= p.rows) break;
    if constexpr (result == Result::gated) {
      const int f = p.outputs / 2;
      if (output >= f) continue;
      const int place = at / 8 * 16 + at % 8;
      const __nv_bfloat16 gate = __float2bfloat16_rn(sum_slices<T>(partial, row, place)),
                          up = __float2bfloat16_rn(sum_slices<T>(partial, row, place + 8));
      __nv_bfloat16* gate_up = static_cast<__nv_bfloat16*>(p.out) + static_cast<std::int64_t>(row) * 2 * f;
      gate_up[output] = gate;
      gate_up[f + output] = up;
      p.gated[static_cast<std::int64_t>(row) * f + output] =
          __float2bfloat16_rn(Silu(to_float(gate)).value * to_float(up));
    } else {
      if (output >= p.outputs) continue;
      const std::int64_t to = static_cast<std::int64_t>(row) * p.outputs + output;
      const float sum = sum_slices<T>(partial, row, at);
      if constexpr (result == Result::f32)
        static_cast<float*>(p.out)[to] = sum;
      else
        static_cast<__nv_bfloat16*>(p.out)[to] =
            __float2bfloat16_rn(p.residual ? sum + to_float(p.residual[to]) : sum);
    }
  }
  if constexpr (T::spread > 1) wait_for_partners();  // they read this block's sums
}

template <class T, Result result>
void launch(cudaStream_t stream, const Problem& p) {
  const int results = result == Result::gated ? p.outputs / 2 : p.outputs;
  const unsigned tiles = blocks_for(results, result == Result::gated ? T::outputs / 2 : T::outputs);
  launch_overlapped(stream, multiply_rows<T, result>,
                    {.grid = dim3(tiles * T::spread), .threads = block_threads, .cluster = T::spread}, p);
}

template <Result result>
void launch(cudaStream_t stream, const Problem& p) {
  if (p.rows <= 8) return launch<Tiling<1, 1>, result>(stream, p);
  if (p.rows <= 16) return launch<Tiling<2, 1>, result>(stream, p);
  if (p.rows <= 32) return launch<Tiling<4, 4>, result>(stream, p);
  return launch<Tiling<8, 4>, result>(stream, p);
}

bool aligned(const Tensor& tensor) {
  return tensor.dtype == DType::bf16 && reinterpret_cast<std::uintptr_t>(tensor.data) % 16 == 0;
}

}  // namespace

bool fits(const Tensor& x, const Tensor& weight, std::int64_t rows) {
  return rows <= most_rows && weight.shape[1] % 8 == 0 && aligned(x) && aligned(weight);
}

void linear(Stream& stream, const Problem& p, bool wide) {
  if (p.rows == 0 || p.outputs == 0) return;
  const cudaStream_t on = stream.cuda().stream();
  if (p.gated) return launch<Result::gated>(on, p);
  if (wide) return launch<Result::f32>(on, p);
  return launch<Result::bf16>(on, p);
}

}  // namespace foretoken::cuda::few_rows
