#pragma once
// out[N, O] = x[N, I] · Wᵀ for the few rows of a decoding step, in bf16 on the tensor cores. Such a product
// takes as long as its weights take to come from memory, or little longer: each comes once.
//
// What a row gives depends on that row and on W alone, bit by bit: not on how many rows it came with. So
// tokens that are verified together get the logits that each would get by itself.

#include <cstdint>

#include <cuda_bf16.h>

#include "runtime/stream.h"

namespace foretoken::cuda::few_rows {

/// Where results are the heads of queries, keys and values: queries and keys are rotated (rope.h), keys and
/// values go to the cells of a cache (cached_attention.h) instead of `out`.
struct Heads {
  int query, key_value, dim;              // NH, NKV, HS: a multiple of 16
  const float *cos, *sin;                 // [P, HS/2]
  const std::int32_t *positions, *cells;  // [N]
  __nv_bfloat16* cache;                   // [S, P, 2·NKV·HS]
};

struct Problem {
  int rows, inputs, outputs;    // N, I, O
  const __nv_bfloat16* x;       // [N, I]
  const __nv_bfloat16* weight;  // [O, I]; where results are gated O = 2F: gate, then up
  const __nv_bfloat16* norm;    // [I], or null: x is multiplied by it, results by 1 / √(mean(x²) + eps)
  float eps;
  const __nv_bfloat16* residual;  // [N, O], may be null or `out`; added to results in bf16 alone
  void* out;                      // [N, O] in bf16 or f32; may be null where results are gated
  __nv_bfloat16* gated;           // [N, F] = silu(gate) · up of the rounded results; null: none
  const Heads* heads;             // null: none
};

/// Whether the kernels can work on these: most_few_rows (linear.h) at most, bf16 at multiples of 16 bytes,
/// rows of a multiple of 8 elements.
bool fits(const Tensor& x, const Tensor& weight, std::int64_t rows);

/// `wide`: out is f32. A norm goes with gated results and heads alone.
void linear(Stream& stream, const Problem& p, bool wide);

}  // namespace foretoken::cuda::few_rows
