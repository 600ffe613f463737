#include "model/layers/linear.h"

#include "runtime/operators/products/linear.h"
#include "runtime/operators/products/quantized_product.h"

namespace foretoken {

Linear::Linear(const ActivationPlan& plan, const Tensor& weight, const Tensor& gradient)
    : weight_(weight), gradient_(gradient), fp8_(plan.fp8) {
  if (fp8_) copies_ = fp8_->plan_weight(weight, plan.shape.tokens());
}

void Linear::forward(const LayerContext& context, const Forward& op) const {
  if (!in_fp8(context))
    return linear_forward(
        context.stream,
        {.x = std::get<Tensor>(op.x), .weight = weight_, .residual = op.residual, .out = op.out});
  const QuantizedTensor x = fp8_->quantize_input(context.stream, op.x, op.kept);
  quantized_product(context.stream, {.a = x,
                                     .b = copies_.rows,
                                     .addend = op.residual,
                                     .out = op.out,
                                     .fast_accumulation = fp8_->fast_forward()});
}

void Linear::keep_input(const LayerContext& context, const QuantizeSource& x,
                        const QuantizedTensor& kept) const {
  if (in_fp8(context)) quantize(context.stream, {.x = x, .out = {}, .transposed = kept});
}

void Linear::backward_input(const LayerContext& context, const BackwardInput& op) const {
  if (!in_fp8(context))
    return linear_backward_input(context.stream,
                                 {.dout = std::get<Tensor>(op.dout), .weight = weight_, .dx = op.dx});
  const QuantizedTensor dout = fp8_->quantize_gradient(context.stream, op.dout, op.kept);
  quantized_product(context.stream, {.a = dout, .b = copies_.columns, .addend = {}, .out = op.dx});
}

void Linear::backward_weight(const LayerContext& context, const BackwardWeight& op) const {
  const bool accumulate = context.halves_run.weight;
  if (!in_fp8(context))
    return linear_backward_weight(
        context.stream, {.dout = op.dout, .x = op.x, .dweight = gradient_, .accumulate = accumulate});
  quantized_product(
      context.stream,
      {.a = op.kept.dout, .b = op.kept.x, .addend = accumulate ? gradient_ : Tensor{}, .out = gradient_});
}

}  // namespace foretoken
