#pragma once
// AdamW with decoupled weight decay over flat ranges (Loshchilov & Hutter, "Decoupled weight decay
// regularization", 2019, algorithm 2, decay multiplied by the learning rate as PyTorch does).
//
//   g' = gradient_scale · g
//   m  = β₁ m + (1 − β₁) g'
//   v  = β₂ v + (1 − β₂) g'²
//   p -= lr · ( m / (1 − β₁ᵗ) / ( √(v / (1 − β₂ᵗ)) + ε ) + weight_decay · p )
//
// Over f32 values m and v may be kept in bf16 (DeepSeek-AI, "DeepSeek-V3 technical report", arXiv 2412.19437,
// section 3.3.3). All arithmetic stays f32, and p moves by m and v as they are before they are rounded.
//
// That rounding is stochastic: up or down with the odds that make its mean exact. To nearest, a change below
// half a unit in the last place, 2⁻⁹ to 2⁻⁸ of the moment, would be lost every time: at β₂ = 0.999 v could
// never fall, since it falls by at most (1 − β₂) v. What decides is a hash of the bits of g, p, m and v and
// of t, and nothing of where an element lies: any layout, a resumed run and both devices round alike.

#include "runtime/stream.h"

namespace foretoken {

struct AdamW {
  Tensor values;          // [n] f32 or f64, updated
  Tensor gradients;       // [n]
  Tensor exp_avg;         // [n] m, updated; the values' dtype, or bf16 over f32
  Tensor exp_avg_sq;      // [n] v, updated; as exp_avg
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
