#pragma once
// An RMSNorm and the linear layer that reads its output, as at the start of both halves of a block:
//
//   normed = RMSNorm(x; norm),  out = normed · Wᵀ

#include "model/layers/linear.h"

namespace foretoken {

class NormedLinear {
 public:
  /// The norm's weight and its gradient, both [C].
  struct Norm {
    Tensor weight, gradient;
    double eps = 1e-5;
  };
  NormedLinear() = default;  // for a part that a block does not have
  NormedLinear(const Norm& norm, const Linear& linear) : norm_(norm), linear_(linear) {}

  const Linear& linear() const { return linear_; }

  struct NormForward {
    Tensor x;       // [N, C]
    Tensor normed;  // [N, C] =
    Tensor rstd;    // [N] =, saved for backward
  };
  /// The norm alone, for an operator that fuses the product with what follows it.
  void norm(const LayerContext& context, const NormForward& op) const;

  struct Forward {
    NormForward norm;
    Tensor out;            // [N, O] =
    QuantizedTensor kept;  // = Linear::Transposes::x
  };
  void forward(const LayerContext& context, const Forward& op) const;

  struct BackwardInput {
    QuantizeSource dout;   // [N, O]; as Linear::BackwardInput::dout
    QuantizedTensor kept;  // = Linear::Transposes::dout
    Tensor dnormed;        // [N, C] scratch
    Tensor x, rstd;        // of forward
    Tensor residual;       // [N, C] the gradient of x's residual path
    Tensor dx;             // [N, C] = (+ residual)
    Tensor normed;         // [N, C] =, optional: forward's output, if it was not kept
    Tensor amax;           // [1] f32 = max |dx|, optional
  };
  /// += into the norm's gradient, unless the pass only measures.
  void backward_input(const LayerContext& context, const BackwardInput& op) const;
  /// As Linear::backward_weight.
  void backward_weight(const LayerContext& context, const Linear::BackwardWeight& op) const {
    linear_.backward_weight(context, op);
  }

 private:
  Norm norm_;
  Linear linear_;
};

}  // namespace foretoken
