#pragma once
// The operands of products of few rows: how they come from memory, which rows of W a tile has, and what a
// norm makes of x.

#include "runtime/operators/products/few_rows_results.cuh"

namespace foretoken::cuda::few_rows {

constexpr int depth = 32;  // of I in a step: four lanes with 16 bytes each

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

}  // namespace foretoken::cuda::few_rows
