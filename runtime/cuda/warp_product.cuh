#pragma once
// Tensor-core products of one warp, in bf16 with sums in f32 (PTX ISA, "mma.m16n8k16", "ldmatrix"). Lane 4g +
// t holds, at depths 2t, 2t + 1, 2t + 8 and 2t + 9, rows g and g + 8 of A [16 × 16] and column g of B [16 ×
// 8]. Of D [16 × 8] it holds columns 2t and 2t + 1: d[0] and d[1] in row g, d[2] and d[3] in row g + 8. A row
// of D depends only on the same row of A.

#include "runtime/cuda/hopper.cuh"

namespace foretoken::cuda {

/// d += A · B
__device__ __forceinline__ void multiply(float (&d)[4], std::uint32_t a0, std::uint32_t a1, std::uint32_t a2,
                                         std::uint32_t a3, std::uint32_t b0, std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/// Loads four matrices [8 × 8] from shared memory. Lane 8i + r passes the address of row r of matrix i. Each
/// lane receives the elements 2t and 2t + 1 of row g of each matrix.
__device__ __forceinline__ void load_matrices(std::uint32_t (&to)[4], const __nv_bfloat16* from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(from))
               : "memory");
}

/// The same with each matrix transposed: a lane receives rows 2t and 2t + 1 of column g.
__device__ __forceinline__ void load_matrices_transposed(std::uint32_t (&to)[4], const __nv_bfloat16* from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(from))
               : "memory");
}

/// Maximum and sum of x over the four lanes that hold a row of D.
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffff, x, 2));
}
__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffff, x, 1);
  return x + __shfl_xor_sync(0xffffffff, x, 2);
}

}  // namespace foretoken::cuda
