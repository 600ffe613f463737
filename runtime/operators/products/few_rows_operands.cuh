#pragma once
// The operands of products of few rows: loads, the rows of W in a tile, and the norm's weight applied to x.

#include "runtime/operators/products/few_rows_results.cuh"

namespace foretoken::cuda::few_rows {

constexpr int depth = 32;  // elements of I per step: four lanes load 16 bytes each

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

/// Loads 16 bytes of x or of the norm's weight, or returns zeros. An ordinary load, because an earlier kernel
/// that has just finished may have written x (overlap.cuh).
__device__ __forceinline__ uint4 load_row(const __nv_bfloat16* from, bool filled) {
  FORETOKEN_LOAD_16("ld.global.v4.u32");
}

#undef FORETOKEN_LOAD_16

/// Multiplies eight bf16 elements of x by eight of the norm's weight and rounds the products to bf16.
__device__ __forceinline__ uint4 scaled(const uint4& x, const uint4& by) {
  const auto two = [](std::uint32_t a, std::uint32_t b) {
    const __nv_bfloat162 product =
        __hmul2(reinterpret_cast<const __nv_bfloat162&>(a), reinterpret_cast<const __nv_bfloat162&>(b));
    return reinterpret_cast<const std::uint32_t&>(product);
  };
  return {two(x.x, by.x), two(x.y, by.y), two(x.z, by.z), two(x.w, by.w)};
}

/// Adds the squares of eight bf16 elements to sum.
__device__ __forceinline__ void add_squares(float& sum, const uint4& x) {
  for (const std::uint32_t pair : {x.x, x.y, x.z, x.w}) {
    const float low = __uint_as_float(pair << 16), high = __uint_as_float(pair & 0xffff0000U);
    sum = fmaf(low, low, sum);
    sum = fmaf(high, high, sum);
  }
}

/// Adds the parts of a row's sum of squares that four neighbouring lanes hold.
__device__ __forceinline__ float squares_of_lanes(float squares) {
  squares += __shfl_xor_sync(full_warp, squares, 1);
  return squares + __shfl_xor_sync(full_warp, squares, 2);
}

/// Row of W that gives output i of a tile of 16. For gated results, outputs 0 to 7 are gates and outputs 8 to
/// 15 the ups that they gate. For heads, outputs i and i + 8 are a pair of elements that rope rotates. In the
/// last tile, outputs past the end use rows of other outputs; their results are not stored.
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
