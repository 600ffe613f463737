#pragma once
// What the choice of linear_swiglu's way and its tensor-core kernels share.

#include <cstdint>

#include <cuda_bf16.h>

#include "runtime/cuda/context.h"

namespace foretoken::cuda::linear_swiglu {

/// One call as the kernels see it; everything dense, in bf16, at multiples of 16 bytes.
struct Problem {
  int n, c, f;                   // F and C are multiples of 8
  const __nv_bfloat16* a;        // [N, C]: forward's x, backward's dout
  const __nv_bfloat16* weight;   // [2F, C] or [C, F]
  const __nv_bfloat16* gate_up;  // [N, 2F], backward's alone
  __nv_bfloat16* out;            // [N, 2F]: gate_up, or dgate_up, which may be gate_up itself
  __nv_bfloat16* gated;          // [N, F]; null where backward is not asked for it
};

void forward_bf16(Context& context, const Problem& p);
void backward_bf16(Context& context, const Problem& p);

}  // namespace foretoken::cuda::linear_swiglu
