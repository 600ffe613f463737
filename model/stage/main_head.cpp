#include "model/stage/main_head.h"

#include <string>

#include "model/parameter_names.h"
#include "runtime/error.h"
#include "runtime/operators/dispatch.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "runtime/operators/rowwise/rms_norm.h"

namespace foretoken {

MainHead::MainHead(const HeadsPlan& plan)
    : arena_(plan.arena),
      plan_(plan.activations),
      eps_(plan.model.rms_norm_eps),
      frozen_(plan.frozen_trunk),
      norm_(plan.parameters.weight(final_norm_name)),
      dnorm_(plan.parameters.gradient(final_norm_name)) {
  const std::string name = output_matrix_name(plan.model);
  matrix_.weight = plan.parameters.weight(name);
  if (frozen_) return;
  matrix_.gradient = plan.parameters.gradient(name);
  // With tied weights the embedding adds to this gradient.
  matrix_.gradient_overwritten = plan.parameters.spec(name).gradient_overwritten;
}

void MainHead::add_slot(TrunkTensors& trunk, TrunkTensors& dtrunk) {
  const Shape rows{plan_.shape.rows, plan_.shape.length, norm_.elements()};
  trunk.normed = arena_.tensor(plan_.dtype, rows);
  // Slots share one gradient of normed, unless the weight half of backward may run later.
  const bool shared = !plan_.split_backward && !slots_.empty();
  dtrunk.normed = shared ? slots_.front().normed_gradient : arena_.tensor(plan_.dtype, rows);
  slots_.push_back({.raw = trunk.raw,
                    .raw_gradient = dtrunk.raw,
                    .normed = trunk.normed,
                    .normed_gradient = dtrunk.normed,
                    .rstd = arena_.tensor(statistics_dtype(plan_.dtype), {plan_.shape.tokens()})});
}

void MainHead::forward(const LayerContext& context, int slot) const {
  const Slot& s = at(slot);
  rms_norm_forward(context.stream,
                   {.x = s.raw, .weight = norm_, .eps = eps_, .out = {s.normed}, .rstd = s.rstd});
}

DepthOutput MainHead::output(int slot) const {
  DepthOutput output{.depth = 0, .hidden = at(slot).normed, .matrix = matrix_, .dhidden = {}};
  if (!frozen_) output.dhidden = at(slot).normed_gradient;
  return output;
}

void MainHead::trunk_gradient(const LayerContext& context, int slot, TrunkTensor of,
                              const Tensor& out) const {
  const Slot& s = at(slot);
  if (of == TrunkTensor::last_input)
    throw DefectError("main head: the gradient of the last block's input is computed by that block");
  if (of == TrunkTensor::normed) return copy(context.stream, s.normed_gradient.view(out.shape), out);
  rms_norm_backward(context.stream,
                    {.dout = {s.normed_gradient}, .x = s.raw, .weight = norm_, .rstd = s.rstd, .dx = out});
}

void MainHead::backward(const LayerContext& context, int slot, bool accumulate) const {
  const Slot& s = at(slot);
  if (frozen_) return;
  // n⁰ = RMSNorm(x)
  rms_norm_backward(context.stream, {.dout = {s.normed_gradient},
                                     .x = s.raw,
                                     .weight = norm_,
                                     .rstd = s.rstd,
                                     .residual = accumulate ? s.raw_gradient : Tensor{},
                                     .dx = s.raw_gradient,
                                     .dweight = dnorm_});
}

}  // namespace foretoken
