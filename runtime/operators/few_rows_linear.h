#pragma once
// out[N, O] = x[N, I] · Wᵀ for the few rows of a decoding step, in bf16 on the tensor cores. Such a product
// takes as long as its weights take to come from memory: each is read once for up to 64 rows.
//
// What a row gives depends on that row and on W alone, bit by bit: not on how many rows it came with. So
// tokens that are verified together get the logits that each would get by itself.

#include <cstdint>

#include <cuda_bf16.h>

#include "runtime/stream.h"

namespace foretoken::cuda::few_rows {

inline constexpr int most_rows = 64;

struct Problem {
  int rows, inputs, outputs;      // N, I, O
  const __nv_bfloat16* x;         // [N, I]
  const __nv_bfloat16* weight;    // [O, I]; where results are gated O = 2F: gate, then up
  const __nv_bfloat16* residual;  // [N, O], may be null or `out`; added to results in bf16 alone
  void* out;                      // [N, O] in bf16 or f32
  __nv_bfloat16* gated;           // [N, F] = silu(gate) · up of the rounded results; null: none
};

/// Whether the kernels can work on these: bf16 at multiples of 16 bytes, rows of a multiple of 8 elements.
bool fits(const Tensor& x, const Tensor& weight, std::int64_t rows);

/// `wide`: out is f32.
void linear(Stream& stream, const Problem& p, bool wide);

}  // namespace foretoken::cuda::few_rows
