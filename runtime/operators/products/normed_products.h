#pragma once
// The two products of a decoding block whose input is normalized (rms_norm.h), each fused into one operator:
//
//   normed_qkv     qkv = RMSNorm(x) · Wᵀ; queries and keys are rotated (rope.h), keys and values are stored
//                  in a cache (cached_attention.h)
//   normed_swiglu  gated = silu(gate) · up,  gate, up = RMSNorm(x) · Wᵀ (linear_swiglu.h)
//
// On a GPU in bf16 with few rows (few_rows_linear.h), each operator is one kernel: x is multiplied by the
// norm's weight as it is read, and the results are multiplied by 1/rms before they are stored. In all other
// cases the separate operators run one after another. A tensor marked "=" is overwritten, and scratch may be;
// the others are read.

#include "runtime/operators/attention/cached_attention.h"

namespace foretoken {

/// x and its norm, with scratch for the intermediate results of separate operators.
struct NormedRows {
  Tensor x;       // [N, C]
  Tensor weight;  // [C]
  double eps = 1e-5;
  Tensor normed;  // [N, C], scratch
  Tensor rstd;    // [N] of the statistics' dtype, scratch
};

struct NormedQkv {
  NormedRows rows;
  Tensor weight;  // [(NH + 2·NKV)·HS, C]
  AttentionHeads heads;
  Tensor cos;        // [P, HS/2] of the statistics' dtype
  Tensor sin;        // [P, HS/2]
  Tensor positions;  // [N] i32
  Tensor slots;      // [N] i32
  Tensor qkv;        // [N, (NH + 2·NKV)·HS] =: the query heads; key and value heads are scratch
  Tensor cache;      // [S, P, 2·NKV·HS], updated: key heads, value heads
};
void normed_qkv(Stream& stream, const NormedQkv& op);

struct NormedSwiglu {
  NormedRows rows;
  Tensor weight;   // [2F, C]: the gate's rows first
  Tensor gate_up;  // [N, 2F], scratch
  Tensor gated;    // [N, F] =
};
void normed_swiglu(Stream& stream, const NormedSwiglu& op);

namespace cuda {
/// Both return false and do nothing if no fused kernel supports the call.
bool normed_qkv(Stream& stream, const NormedQkv& op);
bool normed_swiglu(Stream& stream, const NormedSwiglu& op);
}  // namespace cuda

}  // namespace foretoken
