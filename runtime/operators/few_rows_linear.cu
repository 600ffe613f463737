#include "runtime/cuda/context.h"
#include "runtime/cuda/overlap.cuh"
#include "runtime/cuda/warp_product.cuh"
#include "runtime/operators/few_rows_results.cuh"
#include "runtime/operators/linear.h"

namespace foretoken::cuda::few_rows {

namespace {

constexpr int depth = 32;  // of I that a warp takes in one step: four lanes with 16 bytes each

/// How the work is cut up. A block has 16·spread outputs and slices/spread slices of I, all or two; the
/// blocks of a cluster have the same outputs and the other slices. More rows spread further, for then it is x
/// that passes through a multiprocessor most often.
template <int octets_, int spread_>
struct Tiling {
  static constexpr int octets = octets_, rows = 8 * octets;
  static constexpr int spread = spread_, outputs = 16 * spread, slices_here = slices / spread;
  static constexpr int pitch = outputs + 4;  // of a row of partial sums: no two lanes meet in a bank
  // of many rows: elements of a slice's stage, and the shared memory of all
  static constexpr int stages = octets <= 8 ? 6 : 4, stage = (outputs + rows + 1) * depth;
  static constexpr int bytes = stages * slices_here * stage * 2;
  static_assert(spread == 1 || (slices_here == 2 && bytes >= (rows * pitch + rows * outputs) * 4));
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

/// Products of eight bf16 numbers each, rounded, as a norm scales them.
__device__ __forceinline__ uint4 scaled(const uint4& x, const uint4& by) {
  const auto two = [](std::uint32_t a, std::uint32_t b) {
    const __nv_bfloat162 product =
        __hmul2(reinterpret_cast<const __nv_bfloat162&>(a), reinterpret_cast<const __nv_bfloat162&>(b));
    return reinterpret_cast<const std::uint32_t&>(product);
  };
  return {two(x.x, by.x), two(x.y, by.y), two(x.z, by.z), two(x.w, by.w)};
}

__device__ __forceinline__ void add_squares(float& sum, const uint4& x) {
  for (const std::uint32_t pair : {x.x, x.y, x.z, x.w}) {
    const float low = __uint_as_float(pair << 16), high = __uint_as_float(pair & 0xffff0000U);
    sum = fmaf(low, low, sum);
    sum = fmaf(high, high, sum);
  }
}

/// The sum of the squares of a row of which four lanes have parts.
__device__ __forceinline__ float squares_of_lanes(float squares) {
  squares += __shfl_xor_sync(full_warp, squares, 1);
  return squares + __shfl_xor_sync(full_warp, squares, 2);
}

/// The row of W that is i-th of a tile of 16 outputs. Where results are gated the upper eight are gates and
/// the lower eight their partners; of heads they are the two halves of what is rotated together. The last
/// tile may reach past the end: its rows there repeat others, and nobody stores them.
template <Result result>
__device__ __forceinline__ int weight_row(const Arguments& p, int tile16, int i) {
  int row = 16 * tile16 + i;
  if constexpr (result == Result::gated)
    row = min(8 * tile16 + i % 8, p.outputs / 2 - 1) + i / 8 * (p.outputs / 2);
  if constexpr (result == Result::heads) {
    const Pair pair(p.of_heads, min(tile16, p.outputs / 16 - 1), i % 8);
    row = pair.head * p.of_heads.dim + pair.j + i / 8 * (p.of_heads.dim / 2);
  }
  return min(row, p.outputs - 1);
}

/// Tiles of [16 outputs × 8 rows]: W is the tensor cores' A, x their B. Which of a step's 32 elements of I
/// stand where within a product is free as long as both operands agree: lane 4g + t takes elements 8t .. 8t+7
/// of rows g and g + 8 of W and of row g of x, 16 bytes each, straight from memory to where mma wants them.
/// A norm's weight is taken into x; the squares of x that the rest of it needs are summed into a column
/// beside the sums.
template <class T, Result result, bool normed>
__global__ void __launch_bounds__(block_threads, 2) multiply_rows(const Arguments p) {
  // 16-byte pieces of each weight row that a thread has under way, and steps whose x is read together
  constexpr int ahead = 8, together = T::octets == 1 ? 4 : 2;
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
  // This lane's steps: the last one may reach past the end of the rows.
  const int count = min(end, (p.inputs - 8 * t + depth - 1) / depth) - begin;

  let_next_begin();
  uint4 w[ahead][2];
  const auto load_first = [&](auto filled) {
#pragma unroll
    for (int i = 0; i < ahead; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half) w[i][half] = load_weight(weights[half] + i * depth, filled(i));
  };
  if (count >= ahead)  // mostly: all at once, before the wait
    load_first([](int) { return true; });
  else
    load_first([&](int i) { return i < count; });
  wait_for_earlier_work();

  const __nv_bfloat16* norms = normed ? p.norm + begin * depth + 8 * t : nullptr;
  float d[T::octets][4] = {}, squares[T::octets] = {};
  for (int first = 0; first < end - begin; first += ahead) {
#pragma unroll
    for (int i = 0; i < ahead; i += together) {
      if (first + i >= end - begin) break;
      uint4 x[together][T::octets];
#pragma unroll
      for (int j = 0; j < together; ++j)
#pragma unroll
        for (int octet = 0; octet < T::octets; ++octet)
          x[j][octet] = load_row(rows + (octet * 8 * p.inputs + (i + j) * depth),
                                 octet * 8 + g < p.rows && first + i + j < count);
      if constexpr (normed) {
        uint4 norm[together];
#pragma unroll
        for (int j = 0; j < together; ++j) norm[j] = load_row(norms + (i + j) * depth, first + i + j < count);
#pragma unroll
        for (int j = 0; j < together; ++j)
#pragma unroll
          for (int octet = 0; octet < T::octets; ++octet) {
            add_squares(squares[octet], x[j][octet]);
            x[j][octet] = scaled(x[j][octet], norm[j]);
          }
      }
#pragma unroll
      for (int j = 0; j < together; ++j) {
        uint4(&a)[2] = w[i + j];
#pragma unroll
        for (int octet = 0; octet < T::octets; ++octet) {
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
  for (int octet = 0; octet < T::octets; ++octet) {
    float* at = own + (octet * 8 + 2 * t) * T::pitch;
    at[0] = d[octet][0];
    at[T::pitch] = d[octet][1];
    at[8] = d[octet][2];
    at[T::pitch + 8] = d[octet][3];
  }
  if constexpr (normed)
#pragma unroll
    for (int octet = 0; octet < T::octets; ++octet) {
      const float of_row = squares_of_lanes(squares[octet]);
      if (t == 0) partial[(slice * T::rows + octet * 8 + g) * T::pitch + T::outputs] = of_row;
    }
  finish<T, result, normed>(p, partial, 0, tile16, 0);
}

/// The same over more rows, where x takes as long to come to a multiprocessor as W: both come through shared
/// memory, by copies that are `stages` steps ahead. Four warps work on a slice, each on half of the outputs
/// and half of the rows; the four blocks of a cluster have two slices each. Blocks of one tile of W follow
/// each other over the rows, so that it comes from memory once.
template <class T, Result result, bool normed>
__global__ void __launch_bounds__(block_threads, 2) multiply_many_rows(const Arguments p) {
  extern __shared__ __align__(128) unsigned char memory[];
  constexpr int octets = T::octets / 2;  // of a warp
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, g = lane / 4, t = lane % 4;
  const int own_slice = thread / 128, upper = thread / 32 % 2, right = thread / 64 % 2;
  const int rank = static_cast<int>(blockIdx.x) % T::spread, at = static_cast<int>(blockIdx.x) / T::spread;
  const int row_tiles = (p.rows + T::rows - 1) / T::rows, tile = at / row_tiles,
            first_row = at % row_tiles * T::rows;
  const int slice = rank * T::slices_here + own_slice;
  const int steps = (p.inputs + depth - 1) / depth, longest = (steps + slices - 1) / slices;
  const int begin = steps * slice / slices, count = steps * (slice + 1) / slices - begin;

  // A stage of a slice: [outputs, 32] of W, [rows, 32] of x, [32] of the norm. A thread copies 16 bytes of
  // every 32nd row.
  const auto stage_of = [&](int step) {
    return reinterpret_cast<__nv_bfloat16*>(memory) +
           (step % T::stages * T::slices_here + own_slice) * T::stage;
  };
  const int copied = thread % 128 / 4, piece = thread % 4 * 8;
  const __nv_bfloat16 *weights[T::outputs / 32], *rows[T::rows / 32];
#pragma unroll
  for (int i = 0; i < T::outputs / 32; ++i) {
    const int output = copied + 32 * i;
    weights[i] =
        p.weight + piece +
        static_cast<std::int64_t>(weight_row<result>(p, tile * T::spread + output / 16, output % 16)) *
            p.inputs;
  }
#pragma unroll
  for (int i = 0; i < T::rows / 32; ++i)
    rows[i] =
        p.x + piece + static_cast<std::int64_t>(min(first_row + copied + 32 * i, p.rows - 1)) * p.inputs;
  const auto copy_weights = [&](int step) {
    const int column = (begin + step) * depth;
    const bool filled = column + piece < p.inputs;
    if (step >= count) return;
#pragma unroll
    for (int i = 0; i < T::outputs / 32; ++i)
      copy_16_async(shared_address(stage_of(step) + (copied + 32 * i) * depth + piece),
                    filled ? weights[i] + column : p.weight, filled);
  };
  const auto copy_rows = [&](int step) {
    const int column = (begin + step) * depth;
    const bool filled = column + piece < p.inputs;
    if (step >= count) return;
#pragma unroll
    for (int i = 0; i < T::rows / 32; ++i)
      copy_16_async(shared_address(stage_of(step) + (T::outputs + copied + 32 * i) * depth + piece),
                    filled ? rows[i] + column : p.x, filled && first_row + copied + 32 * i < p.rows);
    if (normed && copied == 0)
      copy_16_async(shared_address(stage_of(step) + (T::outputs + T::rows) * depth + piece),
                    filled ? p.norm + piece + column : p.norm, filled);
  };

  let_next_begin();
  for (int step = 0; step < T::stages - 1; ++step) copy_weights(step);
  wait_for_earlier_work();
  for (int step = 0; step < T::stages - 1; ++step) {
    copy_rows(step);
    commit_copies();
  }

  float d[2][octets][4] = {}, squares[octets] = {};
  for (int step = 0; step < longest; ++step) {
    wait_for_copies<T::stages - 2>();
    __syncthreads();
    copy_weights(step + T::stages - 1);
    copy_rows(step + T::stages - 1);
    commit_copies();
    if (step >= count) continue;
    const auto piece_of = [&, from = stage_of(step)](int row) {
      return *reinterpret_cast<const uint4*>(from + row * depth + 8 * t);
    };
    uint4 a[2][2];
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i / 2][i % 2] = piece_of(32 * upper + 8 * i + g);
#pragma unroll
    for (int octet = 0; octet < octets; ++octet) {
      uint4 b = piece_of(T::outputs + (right * octets + octet) * 8 + g);
      if constexpr (normed) {
        if (upper == 0) add_squares(squares[octet], b);
        b = scaled(b, piece_of(T::outputs + T::rows));
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        multiply(d[i][octet], a[i][0].x, a[i][1].x, a[i][0].y, a[i][1].y, b.x, b.y);
        multiply(d[i][octet], a[i][0].z, a[i][1].z, a[i][0].w, a[i][1].w, b.z, b.w);
      }
    }
  }
  wait_for_copies<0>();
  __syncthreads();

  // Where the stages were: the pair's sums [rows, pitch], and before them what its slices' warps give each
  // other: each adds up half of the outputs.
  auto* partial = reinterpret_cast<float*>(memory);
  float *given = partial + T::rows * T::pitch, *given_squares = partial + T::outputs;
#pragma unroll
  for (int octet = 0; octet < octets; ++octet) {
#pragma unroll
    for (int e = 0; e < 4; ++e)
      given[(octet * 4 + e) * block_threads + thread] = own_slice == 0 ? d[1][octet][e] : d[0][octet][e];
    if constexpr (normed) {
      squares[octet] = squares_of_lanes(squares[octet]);
      if (own_slice == 1 && upper == 0 && t == 0)
        given_squares[((right * octets + octet) * 8 + g) * T::pitch] = squares[octet];
    }
  }
  __syncthreads();
#pragma unroll
  for (int octet = 0; octet < octets; ++octet) {
    const int row = (right * octets + octet) * 8;
    float sum[4];
#pragma unroll
    for (int e = 0; e < 4; ++e)
      sum[e] = (own_slice == 0 ? d[0][octet][e] : d[1][octet][e]) +
               given[(octet * 4 + e) * block_threads + (thread ^ 128)];
    float* to = partial + (row + 2 * t) * T::pitch + 32 * upper + 16 * own_slice + g;
    to[0] = sum[0];
    to[T::pitch] = sum[1];
    to[8] = sum[2];
    to[T::pitch + 8] = sum[3];
    if (normed && own_slice == 0 && upper == 0 && t == 0)
      given_squares[(row + g) * T::pitch] += squares[octet];
  }
  finish<T, result, normed>(p, partial, rank, tile, first_row);
}

template <class T, Result result, bool normed>
void launch(cudaStream_t stream, const Problem& p) {
  const unsigned tiles = blocks_for(p.outputs, T::outputs);
  const Arguments arguments{p, p.heads ? *p.heads : Heads{}};
  if constexpr (T::spread == 1) {
    launch_overlapped(stream, multiply_rows<T, result, normed>,
                      {.grid = dim3(tiles), .threads = block_threads}, arguments);
  } else {
    static const bool allowed = [] {
      check(cudaFuncSetAttribute(multiply_many_rows<T, result, normed>,
                                 cudaFuncAttributeMaxDynamicSharedMemorySize, T::bytes),
            "linear: shared memory");
      return true;
    }();
    static_cast<void>(allowed);
    launch_overlapped(stream, multiply_many_rows<T, result, normed>,
                      {.grid = dim3(tiles * blocks_for(p.rows, T::rows) * T::spread),
                       .threads = block_threads,
                       .cluster = T::spread,
                       .shared = T::bytes},
                      arguments);
  }
}

template <Result result, bool normed>
void launch(cudaStream_t stream, const Problem& p) {
  if (p.rows <= 8) return launch<Tiling<1, 1>, result, normed>(stream, p);
  if (p.rows <= 16) return launch<Tiling<2, 1>, result, normed>(stream, p);
  if (p.rows <= 32) return launch<Tiling<4, 4>, result, normed>(stream, p);
  // the fewest rows beside those there are
  if (p.rows > 64 && (p.rows - 1) % 128 >= 64) return launch<Tiling<16, 4>, result, normed>(stream, p);
  return launch<Tiling<8, 4>, result, normed>(stream, p);
}

bool aligned(const Tensor& tensor) {
  return tensor.dtype == DType::bf16 && reinterpret_cast<std::uintptr_t>(tensor.data) % 16 == 0;
}

}  // namespace

bool fits(const Tensor& x, const Tensor& weight, std::int64_t rows) {
  return rows <= most_few_rows && weight.shape[1] % 8 == 0 && aligned(x) && aligned(weight);
}

void linear(Stream& stream, const Problem& p, bool wide) {
  if (p.rows == 0 || p.outputs == 0) return;
  const cudaStream_t on = stream.cuda().stream();
  if (p.heads) return launch<Result::heads, true>(on, p);
  if (p.gated && p.norm) return launch<Result::gated, true>(on, p);
  if (p.gated) return launch<Result::gated, false>(on, p);
  if (wide) return launch<Result::f32, false>(on, p);
  return launch<Result::bf16, false>(on, p);
}

}  // namespace foretoken::cuda::few_rows
