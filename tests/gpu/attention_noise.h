#pragma once
// Bounds of the rounding errors in the results of attention, element by element.

#include <vector>

#include "runtime/arena.h"
#include "runtime/operators/attention/attention.h"

namespace foretoken::testing {

/// Bounds the errors of one query's attention to some keys: P = softmax(q Kᵀ / √HS), out = P V.
///
/// In f32, the error of a score is the roundoff of its sum. It gives a weight the relative error `relative`;
/// the sum of weighted values adds its own roundoff. In bf16 the tensor cores also round the weights to bf16.
/// The final rounding of `out` is not part of the bound, because it is relative to `out`.
struct QueryNoise {
  std::vector<double> weights;  // P
  double lse = 0;               // log Σ exp(score)
  double relative = 0;          // error of a weight, before it is rounded to bf16, and absolute error of lse
  std::vector<double> out;      // [HS] absolute error
};
QueryNoise query_noise(const float* q, const std::vector<const float*>& keys,
                       const std::vector<const float*>& values, std::int64_t dim, DType dtype);

/// Absolute errors of attention_forward's out and lse.
struct AttentionForwardNoise {
  Tensor out, lse;
};
AttentionForwardNoise attention_noise(Arena& arena, const AttentionForward& op, DType dtype);

/// Absolute error of attention_backward's dqkv. In bf16 the tensor cores read P and dS rounded to bf16. A
/// gradient may be rotated by rope before or after it is rounded to bf16.
Tensor attention_noise(Arena& arena, const AttentionBackward& op, DType dtype);

}  // namespace foretoken::testing
