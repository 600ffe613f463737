#pragma once
// The two places of a decoding block where a norm (rms_norm.h) goes before a product, each as one operator:
//
//   normed_qkv     qkv = RMSNorm(x) · Wᵀ, queries and keys rotated (rope.h), keys and values stored in a
//   cache
//                  (cached_attention.h)
//   normed_swiglu  gated = silu(gate) · up,  gate, up = RMSNorm(x) · Wᵀ (linear_swiglu.h)
//
// On a GPU, in bf16, few rows (few_rows_linear.h) take one kernel each: x is read with the norm's weight, the
// results get 1/rms and go where they belong. Everywhere else these are the operators one after another.

#include "runtime/operators/cached_attention.h"

namespace foretoken {

/// x and its norm, with room for what operators one after another hand on.
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
  Tensor cells;      // [N] i32
  Tensor qkv;        // [N, (NH + 2·NKV)·HS]: query heads =, the rest is scratch
  Tensor cache;      // [S, P, 2·NKV·HS]: key heads, value heads
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
/// False, and nothing is done, where no kernel does all of it at once.
bool normed_qkv(Stream& stream, const NormedQkv& op);
bool normed_swiglu(Stream& stream, const NormedSwiglu& op);
}  // namespace cuda

}  // namespace foretoken
