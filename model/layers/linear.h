#pragma once
// A linear layer of a block or module: its weight [O, I], the weight's gradient, and the dtype that its three
// products run in (runtime/operators/products/linear.h): the activations' dtype or, if the plan selects it,
// FP8.

#include "model/layer_context.h"
#include "model/layers/fp8_products.h"

namespace foretoken {

class Linear {
 public:
  Linear() = default;  // for a part that a block does not have
  Linear(const ActivationPlan& plan, const Tensor& weight, const Tensor& gradient);

  /// FP8 only: the transposed operands of the weight's gradient; undefined in other dtypes.
  struct Transposes {
    QuantizedTensor x;     // [I, N], of one microbatch from forward on
    QuantizedTensor dout;  // [O, N], between backward_input and backward_weight
  };

  struct Forward {
    QuantizeSource x;      // [N, I]; a plain Tensor unless the products run in FP8
    Tensor residual;       // [N, O], optional
    Tensor out;            // [N, O] =
    QuantizedTensor kept;  // = Transposes::x
  };
  void forward(const LayerContext& context, const Forward& op) const;

  /// kept = xᵀ for the recomputed input x of forward. Does nothing if the products do not run in FP8.
  void keep_input(const LayerContext& context, const QuantizeSource& x, const QuantizedTensor& kept) const;

  struct BackwardInput {
    QuantizeSource dout;   // [N, O]; as Forward::x
    Tensor dx;             // [N, I] =
    QuantizedTensor kept;  // = Transposes::dout
  };
  void backward_input(const LayerContext& context, const BackwardInput& op) const;

  struct BackwardWeight {
    Tensor dout, x;  // read where the products do not run in FP8
    Transposes kept;
  };
  /// += into the weight's gradient, or = if context.halves_run marks the first addition.
  void backward_weight(const LayerContext& context, const BackwardWeight& op) const;

  /// The producer of forward's x or backward_input's dout stores its largest magnitude here. Undefined if the
  /// products do not need it. Valid until the next product in FP8.
  Tensor amax(const LayerContext& context) const { return in_fp8(context) ? fp8_->amax() : Tensor{}; }
  /// `x` together with amax(), which its producer has written; `x` alone if the products do not need it.
  QuantizeSource measured(const LayerContext& context, const Tensor& x) const {
    const Tensor largest = amax(context);
    if (!largest.defined()) return x;
    return MeasuredTensor{x, largest};
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
