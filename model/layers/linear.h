#pragma once
// A linear layer of a block or module: its weight [O, I] and the weight's gradient. Its three products
// (runtime/operators/products/linear.h) run in the activations' dtype or, if the plan selects it, in FP8.

#include "model/layer_context.h"
#include "model/layers/fp8_products.h"

namespace foretoken {

class Linear {
 public:
  Linear() = default;  // for blocks without this layer
  Linear(const ActivationPlan& plan, const Tensor& weight, const Tensor& gradient);

  /// FP8 only: the transposed operands of the weight's gradient; undefined in other dtypes.
  struct Transposes {
    QuantizedTensor x;     // [I, N], written by forward, read by backward_weight
    QuantizedTensor dout;  // [O, N], written by backward_input, read by backward_weight
  };

  struct Forward {
    QuantizeSource x;      // [N, I]; a plain Tensor unless the products run in FP8
    Tensor residual;       // [N, O], optional
    Tensor out;            // [N, O], overwritten
    QuantizedTensor kept;  // Transposes::x, overwritten
  };
  void forward(const LayerContext& context, const Forward& op) const;

  /// kept = xᵀ for the recomputed input x of forward. Does nothing if the products do not run in FP8.
  void keep_input(const LayerContext& context, const QuantizeSource& x, const QuantizedTensor& kept) const;

  struct BackwardInput {
    QuantizeSource dout;   // [N, O]; a plain Tensor unless the products run in FP8
    Tensor dx;             // [N, I], overwritten
    QuantizedTensor kept;  // Transposes::dout, overwritten
  };
  void backward_input(const LayerContext& context, const BackwardInput& op) const;

  struct BackwardWeight {
    Tensor dout, x;   // read unless the products run in FP8
    Transposes kept;  // read if the products run in FP8
  };
  /// Adds to the weight's gradient, or overwrites it in the step's first microbatch (context.halves_run).
  void backward_weight(const LayerContext& context, const BackwardWeight& op) const;

  /// [1] The operator that computes forward's x or backward_input's dout stores the largest magnitude here.
  /// Undefined if the products do not need it. Valid until the next product in FP8.
  Tensor amax(const LayerContext& context) const { return in_fp8(context) ? fp8_->amax() : Tensor{}; }
  /// `x` together with amax(), which the operator that computed x has written; only `x` if the products do
  /// not need amax().
  QuantizeSource with_amax(const LayerContext& context, const Tensor& x) const {
    const Tensor largest = amax(context);
    if (!largest.defined()) return x;
    return TensorWithAmax{x, largest};
  }

  const Tensor& weight() const { return weight_; }
  /// Whether forward and backward_input run in FP8.
  bool in_fp8(const LayerContext& context) const { return fp8_ != nullptr && !context.forward_only; }

 private:
  Tensor weight_, gradient_;
  Fp8Products* fp8_ = nullptr;
  Fp8Products::WeightCopies copies_;
};

}  // namespace foretoken
