#pragma once
// The operands of products of few rows: loading them, the rows of W in a tile, and a norm's weight applied to
// x.

#include "runtime/operators/products/few_rows_results.cuh"

namespace foretoken::cuda::few_rows {

constexpr int depth = 32;  // elements of I per step: four lanes with 16 bytes each

#define FORETOKEN_LOAD_16(from_memory)                                                            \
  uint4 x;                                                                                        \
  asm volatile(                                                                                   \
      "{\n.reg .pred p;\nsetp.ne.b32 p, %5, 0;\nmov.b32 %0, 0;\nmov.b32 %1, 0;\nmov.b32 %2, 0;\n" \
      "mov.b32 %3, 0;\n@p " from_memory " {%0, %1, %2, %3}, [%4];\n}\n"                           \
      : "=&r"(x.x), "=&r"(x.y), "=&r"(x.z), "=&r"(x.w)                                            \
      : "l"(from), "r"(int(filled)));                                                             \
  return x

/// Loads 16 bytes, or returns zeros. Bypasses L1, because each weight is read once.
__device__ __forceinline__ uint4 load_weight(const __nv_bfloat16* from, bool filled) {
  FORETOKEN_LOAD_16("ld.global.nc.L1::no_allocate.L2::128B.v4.u32");
}

__device__ __forceinline__ uint4 load_row(const __nv_bfloat16* from, bool filled) {
  FORETOKEN_LOAD_16("ld.global.v4.u32");
}

#undef FORETOKEN_LOAD_16

/// Elementwise product of eight bf16 pairs, rounded as a norm rounds.
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

/// Sums the squares of a row, of which four lanes hold parts.
__device__ __forceinline__ float squares_of_lanes(float squares) {
  squares += __shfl_xor_sync(full_warp, squares, 1);
  return squares + __shfl_xor_sync(full_warp, squares, 2);
}

/// The row of W of output i in a tile of 16. For gated results the first eight are gates and the last eight
/// the ups that they gate; for heads they are the two elements of the pairs that rope rotates. The last tile
/// may extend past the end: its rows there repeat other rows, and their results are not stored.
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
