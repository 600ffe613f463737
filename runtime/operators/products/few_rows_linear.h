#pragma once
// out[N, O] = x[N, I] · Wᵀ for the few rows of a decoding step, in bf16 on the tensor cores. The time is
// bound by the memory bandwidth for the weights, so each weight is read from memory once.
//
// The bits of a row's result depend only on that row's operands and on W, not on the number of rows. Tokens
// that are verified together therefore get the same logits as tokens that are verified alone.

#include <cstdint>

#include <cuda_bf16.h>

#include "runtime/stream.h"

namespace foretoken::cuda::few_rows {

/// Extra arguments of a product whose results are query, key and value heads. Queries and keys are rotated
/// (rope.h); keys and values are stored in the slots of a cache (cached_attention.h) instead of in `out`.
struct Heads {
  int query, key_value, dim;              // NH, NKV, HS: a multiple of 16
  const float *cos, *sin;                 // [P, HS/2]
  const std::int32_t *positions, *slots;  // [N]
  __nv_bfloat16* cache;                   // [S, P, 2·NKV·HS]
};

struct Problem {
  int rows, inputs, outputs;    // N, I, O
  const __nv_bfloat16* x;       // [N, I]
  const __nv_bfloat16* weight;  // [O, I]; with `gated`, O = 2F: the gate's rows, then the up rows
  const __nv_bfloat16* norm;  // [I]: x is multiplied by it, the results by 1 / √(mean(x²) + eps); or null
  float eps;
  const __nv_bfloat16*
      residual;          // [N, O], added to the results; null or `out` allowed; only with bf16 results
  void* out;             // [N, O] in bf16 or f32, overwritten; may be null with `gated`
  __nv_bfloat16* gated;  // [N, F] silu(gate) · up of the rounded results, overwritten; or null
  const Heads* heads;    // or null
};

/// Whether the kernels support the operands: at most most_few_rows (linear.h) rows, bf16, 16-byte aligned,
/// rows of a multiple of 8 elements.
bool fits(const Tensor& x, const Tensor& weight, std::int64_t rows);

/// If `wide`, out is f32. `norm` requires `gated` or `heads`, and `heads` requires `norm`.
void linear(Stream& stream, const Problem& p, bool wide);

}  // namespace foretoken::cuda::few_rows
