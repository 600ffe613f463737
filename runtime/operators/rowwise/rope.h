#pragma once
// Rotary position embedding, half-split form (Su et al., "RoFormer", 2021, eq. 34; the pairing (i, i + HS/2)
// is that of Llama's Hugging Face weights), in place on the query and key heads of a fused qkv matrix.
//
//   x₁, x₂ the halves of a head at position t, θᵢ = rope_theta^(−2i/HS):
//   x₁' = x₁ cos(tθ) − x₂ sin(tθ)        x₂' = x₂ cos(tθ) + x₁ sin(tθ)
//
// It is a rotation, so backward is the rotation by −tθ.

#include "runtime/stream.h"

namespace foretoken {

/// Fills cos and sin, [T, HS/2] each, on the host, for positions 0..T−1 (computed in fp64).
void rope_table(const Tensor& cos, const Tensor& sin, double rope_theta);

enum class RopeDirection { forward, backward };

struct Rope {
  Tensor qkv;              // [B, T, (NH + 2·NKV)·HS], rotated in place
  Tensor cos;              // [≥ T, HS/2], in the statistics' dtype
  Tensor sin;              // [≥ T, HS/2]
  std::int64_t heads = 0;  // NH + NKV: the first `heads` heads of a row are rotated
  Tensor positions;        // [B, T] i32, optional: the tokens' positions; default 0..T−1 in each row
  RopeDirection direction = RopeDirection::forward;
};
void rope(Stream& stream, const Rope& op);

namespace cpu {
void rope(Stream& stream, const Rope& op);
}  // namespace cpu
namespace cuda {
void rope(Stream& stream, const Rope& op);
}  // namespace cuda

}  // namespace foretoken
