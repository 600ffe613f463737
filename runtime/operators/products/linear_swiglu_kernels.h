#pragma once
// Declarations shared by the dispatch of linear_swiglu and its tensor-core kernels.

#include <cstdint>

#include <cuda_bf16.h>

#include "runtime/cuda/context.h"

namespace foretoken::cuda::linear_swiglu {

/// The kernels' arguments for one call. All matrices are dense, bf16 and 16-byte aligned.
struct Problem {
  int n, c, f;                   // F and C are multiples of 8
  const __nv_bfloat16* a;        // [N, C]: forward's x, backward's dout
  const __nv_bfloat16* weight;   // [2F, C] or [C, F]
  const __nv_bfloat16* gate_up;  // [N, 2F], backward only
  __nv_bfloat16* out;            // [N, 2F]: gate_up, or dgate_up, which may alias gate_up
  __nv_bfloat16* gated;          // [N, F]; may be null in backward
};

void forward_bf16(Context& context, const Problem& p);
void backward_bf16(Context& context, const Problem& p);

}  // namespace foretoken::cuda::linear_swiglu
