#pragma once
// Causal grouped-query attention over a fused qkv matrix. No T × T matrix is stored.
//
//   scores[t, u] = (q_t · k_u) / √HS   for first(t) ≤ u ≤ t,  −∞ elsewhere
//   out_t = Σᵤ softmax(scores)[t, u] · v_u          lse_t = log Σᵤ exp(scores[t, u])
//   P = exp(scores − lse),  dV = Pᵀ dO,  dP = dO Vᵀ,  dS = P ∘ (dP − rowsum(dO ∘ O)) / √HS,  dQ = dS K,  dK =
//   dSᵀ Q (Dao et al., "FlashAttention", 2022, algorithms 1 and 4)
//
// first(t) is 0, or the start of the document of position t if document_start is defined. Query head h reads
// key/value head h / (NH/NKV).
//
// Backward computes the gradient of qkv. If rope's tables are defined, it is the gradient of qkv before rope
// rotated it. A tensor marked "=" is overwritten; the others are read.

#include "runtime/operators/rowwise/rope.h"

namespace foretoken {

struct AttentionHeads {
  std::int64_t query = 0;      // NH
  std::int64_t key_value = 0;  // NKV
  std::int64_t dim = 0;        // HS
};

struct AttentionForward {
  AttentionHeads heads;
  Tensor qkv;             // [B, T, (NH + 2·NKV)·HS]: query heads, key heads, value heads
  Tensor document_start;  // [B, S ≥ T] i32, optional; negative values count as 0
  Tensor out;             // [B, T, NH·HS] =
  Tensor lse;             // [B, NH, T] =, in the statistics' dtype, saved for backward
};
void attention_forward(Stream& stream, const AttentionForward& op);

struct AttentionBackward {
  AttentionHeads heads;
  Tensor dout;            // [B, T, NH·HS]
  Tensor qkv;             // [B, T, (NH + 2·NKV)·HS]
  Tensor document_start;  // as in AttentionForward
  Tensor out;             // [B, T, NH·HS]
  Tensor lse;             // [B, NH, T]
  Tensor rope_cos;        // [T, HS/2], optional
  Tensor rope_sin;        // [T, HS/2], together with rope_cos
  Tensor dqkv;            // [B, T, (NH + 2·NKV)·HS] =
};
void attention_backward(Stream& stream, const AttentionBackward& op);

/// The arguments of the backward rope, for kernels that do not rotate the gradient themselves.
inline Rope rope_of(const AttentionBackward& op) {
  return {.qkv = op.dqkv,
          .cos = op.rope_cos,
          .sin = op.rope_sin,
          .heads = op.heads.query + op.heads.key_value,
          .direction = RopeDirection::backward};
}

namespace cpu {
void attention_forward(Stream& stream, const AttentionForward& op);
void attention_backward(Stream& stream, const AttentionBackward& op);
}  // namespace cpu
namespace cuda {
void attention_forward(Stream& stream, const AttentionForward& op);
void attention_backward(Stream& stream, const AttentionBackward& op);
}  // namespace cuda

}  // namespace foretoken
