#pragma once
// AdamW with decoupled weight decay over flat ranges (Loshchilov & Hutter, "Decoupled weight decay
// regularization", 2019, algorithm 2, decay multiplied by the learning rate as PyTorch does).
//
//   g' = gradient_scale · g
//   m  = β₁ m + (1 − β₁) g'
//   v  = β₂ v + (1 − β₂) g'²
//   p -= lr · ( m / (1 − β₁ᵗ) / ( √(v / (1 − β₂ᵗ)) + ε ) + weight_decay · p )

#include "runtime/stream.h"

namespace foretoken {

struct AdamW {
  Tensor values;          // [n] f32 or f64, updated
  Tensor gradients;       // [n]
  Tensor exp_avg;         // [n] m, updated
  Tensor exp_avg_sq;      // [n] v, updated
  Tensor weights;         // [n] =, optional: the new values in the dtype that layers compute in
  Tensor gradient_scale;  // [1] f64, of the clip by global norm; where it is not finite nothing is updated
  double lr = 0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0;
  std::int64_t step = 1;  // t, from 1
};

void adamw(Stream& stream, const AdamW& op);

namespace cpu {
void adamw(Stream& stream, const AdamW& op);
}  // namespace cpu
namespace cuda {
void adamw(Stream& stream, const AdamW& op);
}  // namespace cuda

}  // namespace foretoken
