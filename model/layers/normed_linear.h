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
  NormedLinear() = default;  // for blocks without this layer
  NormedLinear(const Norm& norm, const Linear& linear) : norm_(norm), linear_(linear) {}

  const Linear& linear() const { return linear_; }

  struct NormForward {
    Tensor x;       // [N, C]
    Tensor normed;  // [N, C], overwritten
    Tensor rstd;    // [N], overwritten; saved for backward
  };
  /// Only the norm, if another operator fuses the product with the operation after it.
  void norm(const LayerContext& context, const NormForward& op) const;

  struct Forward {
    NormForward norm;
    Tensor out;            // [N, O], overwritten
    QuantizedTensor kept;  // Linear::Transposes::x, overwritten
  };
  void forward(const LayerContext& context, const Forward& op) const;

  struct BackwardInput {
    QuantizeSource dout;   // [N, O]; a plain Tensor unless the products run in FP8
    QuantizedTensor kept;  // Linear::Transposes::dout, overwritten
    Tensor dnormed;        // [N, C] scratch
    Tensor x, rstd;        // forward's
    Tensor residual;       // [N, C] the gradient of x's residual path, added to dx
    Tensor dx;             // [N, C], overwritten
    Tensor normed;         // [N, C], optional: receives forward's normed again, if it was not kept
    Tensor amax;           // [1] f32, optional: receives max |dx|
  };
  /// Adds to the norm's gradient, unless context.measure_only is set.
  void backward_input(const LayerContext& context, const BackwardInput& op) const;
  /// Same as Linear::backward_weight.
  void backward_weight(const LayerContext& context, const Linear::BackwardWeight& op) const {
    linear_.backward_weight(context, op);
  }

 private:
  Norm norm_;
  Linear linear_;
};

}  // namespace foretoken
