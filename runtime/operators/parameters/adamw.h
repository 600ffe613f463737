#pragma once
// AdamW with decoupled weight decay over flat ranges (Loshchilov & Hutter, "Decoupled weight decay
// regularization", 2019, algorithm 2, decay multiplied by the learning rate as PyTorch does).
//
//   g' = gradient_scale · g
//   m  = β₁ m + (1 − β₁) g'
//   v  = β₂ v + (1 − β₂) g'²
//   p -= lr · ( m / (1 − β₁ᵗ) / ( √(v / (1 − β₂ᵗ)) + ε ) + weight_decay · p )
//
// With f32 values, m and v may be stored in bf16 (DeepSeek-AI, "DeepSeek-V3 technical report", arXiv
// 2412.19437, section 3.3.3). All arithmetic stays in f32, and the update of p uses m and v before rounding.
//
// The rounding to bf16 is stochastic and unbiased. Rounding to nearest would lose each change below half a
// unit in the last place, 2⁻⁹ to 2⁻⁸ of the moment: at β₂ = 0.999, v could never decrease, because one step
// decreases it by at most (1 − β₂) v. The random bits are a hash of t and the bits of g, p, m and v. They do
// not depend on the element's index, so every layout, a resumed run and both devices round identically. A
// tensor marked "=" is overwritten.

#include "runtime/stream.h"

namespace foretoken {

struct AdamW {
  Tensor values;          // [n] f32 or f64, updated
  Tensor gradients;       // [n]
  Tensor exp_avg;         // [n] m, updated; dtype of values, or bf16 if values are f32
  Tensor exp_avg_sq;      // [n] v, updated; dtype of exp_avg
  Tensor weights;         // [n] =, optional: the updated values, converted to the compute dtype
  Tensor gradient_scale;  // [1] f64, from clipping by global norm; if not finite, nothing is updated
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
