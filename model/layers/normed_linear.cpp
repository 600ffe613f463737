#include "model/layers/normed_linear.h"

#include "runtime/operators/rowwise/rms_norm.h"

namespace foretoken {

void NormedLinear::norm(const LayerContext& context, const NormForward& op) const {
  rms_norm_forward(context.stream, {.x = op.x,
                                    .weight = norm_.weight,
                                    .eps = norm_.eps,
                                    .out = {op.normed},
                                    .rstd = op.rstd,
                                    .amax = linear_.amax(context)});
}

void NormedLinear::forward(const LayerContext& context, const Forward& op) const {
  norm(context, op.norm);
  linear_.forward(
      context,
      {.x = linear_.with_amax(context, op.norm.normed), .residual = {}, .out = op.out, .kept = op.kept});
}

void NormedLinear::backward_input(const LayerContext& context, const BackwardInput& op) const {
  // out = linear(normed)
  linear_.backward_input(context, {.dout = op.dout, .dx = op.dnormed, .kept = op.kept});
  // normed = RMSNorm(x)
  rms_norm_backward(context.stream, {.dout = {op.dnormed},
                                     .x = op.x,
                                     .weight = norm_.weight,
                                     .rstd = op.rstd,
                                     .residual = op.residual,
                                     .dx = op.dx,
                                     .dweight = context.measure_only ? Tensor{} : norm_.gradient,
                                     .out = op.normed,
                                     .amax = op.amax});
}

}  // namespace foretoken
