#pragma once
// Declarations shared by the two kernels of the tensor-core backward.
//
// Both recompute P = exp(Q Kᵀ/√HS − lse) and dS = P ∘ (dO Vᵀ − delta). dS lacks its factor 1/√HS, which is
// applied to the final sums dQ and dK.

#include "runtime/operators/attention/flash_attention_bf16.cuh"

namespace foretoken::cuda::flash {

constexpr int owned_rows = block_rows;  // queries, or keys, that a block owns
/// Stages of the ring of tiles that a block loops over. One tile is in use. The other stages hold the
/// previous step's tile, which slower warps may still read, or receive copies for later steps.
constexpr int stages = 3;

/// An element of P, 2^(score · scale · log₂e − lse · log₂e). scale_log2 is scale · log₂e, lse_log2 lse ·
/// log₂e.
__device__ __forceinline__ float weight(float score, float scale_log2, float lse_log2) {
  return exp2_fast(fmaf(score, scale_log2, -lse_log2));
}

/// Layout of the f32 buffer in which the blocks of keys add up dQ · √HS. Each head and tile of 64 queries has
/// two parts of half the columns. The elements of a part are in the order of a warpgroup's registers, so that
/// neighbouring threads add to neighbouring 16 bytes.
template <int HS>
struct QuerySums {
  static constexpr bool supported = HS % 64 == 0;
  static constexpr int columns = HS / 2;
  static constexpr int count = columns / 2;  // elements per thread
  static constexpr int part = warpgroup_rows * columns, tile = 2 * part;
};

/// Rotates elements (i, i + HS/2) of a gradient by the negative of the angle that rope rotated them by.
__device__ __forceinline__ void rotate_back(float& x1, float& x2, float cos, float sin) {
  const float a = x1;
  x1 = a * cos + x2 * sin;
  x2 = x2 * cos - a * sin;
}

/// Rotates all pairs of this thread's part of d [64 × HS] back if the problem has rope tables. The thread
/// holds both elements of each pair. `row` is the position of the thread's first row in
/// the sequence; its second is row + 8.
template <int HS>
__device__ __forceinline__ void rotate_back(const Problem& p, float (&d)[HS / 2], int row) {
  if (p.rope_cos == nullptr) return;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if (row + 8 * r >= p.time) continue;
    const std::int64_t angles = std::int64_t(row + 8 * r) * (HS / 2) + Place{}.column;
#pragma unroll
    for (int g = 0; g < HS / 16; ++g) {
      const float2 cos = *reinterpret_cast<const float2*>(p.rope_cos + angles + 8 * g);
      const float2 sin = *reinterpret_cast<const float2*>(p.rope_sin + angles + 8 * g);
      float *x1 = d + 4 * g + 2 * r, *x2 = x1 + HS / 4;
      rotate_back(x1[0], x2[0], cos.x, sin.x);
      rotate_back(x1[1], x2[1], cos.y, sin.y);
    }
  }
}

/// Computes dK and dV. If `sums` is not null, it also adds each block's contribution to dQ there (QuerySums).
void keys_backward(cudaStream_t stream, const Problem& p, const BackwardTensors<__nv_bfloat16>& tensors,
                   float* sums);

}  // namespace foretoken::cuda::flash
