#include "model/heads/parallel_heads.h"

#include "model/parameter_names.h"
#include "runtime/operators/dispatch.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "runtime/operators/rowwise/rms_norm.h"

namespace foretoken {

std::vector<ParameterSpec> ParallelHeads::parameters(const ModelConfig& model, const MtpConfig&,
                                                     const std::string& prefix) {
  return Block::parameters(model, prefix);
}

double ParallelHeads::cost(const ModelConfig&, const MtpConfig&, double block) {
  return block;
}

ParallelHeads::ParallelHeads(const HeadsPlan& plan)
    : HeadsInTurn(plan, Outputs::shared), eps_(plan.model.rms_norm_eps), scratch_(plan.scratch) {
  const std::int64_t n = plan.activations.shape.tokens(), c = plan.model.hidden_size;
  const auto tensor = [&](const Shape& shape) { return plan.arena.tensor(plan.activations.dtype, shape); };
  if (!detached_) dinput_ = tensor({n, c});
  if (first() > last()) return;
  norm_ = plan.parameters.weight(final_norm_name);
  if (!detached_) dnorm_ = plan.parameters.gradient(final_norm_name);
  // A head's backward follows its forward directly, so full recomputation would save nothing.
  ActivationPlan activations = plan.activations;
  if (activations.recompute == Recompute::full) activations.recompute = Recompute::none;
  for (int depth = first(); depth <= last(); ++depth)
    blocks_.emplace_back(plan.model, plan.parameters, mtp_prefix(plan.model, plan.mtp, depth), activations);
  saved_ = Block::plan_saved(plan.arena, plan.model, plan.activations, plan.scratch);
  gradients_ = Block::plan_gradients(plan.arena, plan.model, plan.activations, plan.scratch);
  raw_ = tensor({n, c});
  rstd_ = plan.arena.tensor(statistics_dtype(plan.activations.dtype), {n});
  hidden_ = tensor({plan.activations.shape.rows, plan.activations.shape.length, c});
}

Tensor ParallelHeads::hidden(const LayerContext& context, int slot, int depth) const {
  blocks_[index(depth)].forward(context, at(slot).trunk.last_input, raw_, saved_);
  rms_norm_forward(context.stream,
                   {.x = raw_, .weight = norm_, .eps = eps_, .out = {hidden_}, .rstd = rstd_});
  return hidden_;
}

Tensor ParallelHeads::head_backward(const LayerContext& context, int slot, int depth, bool first,
                                    const Tensor& dhidden) const {
  const Block& block = blocks_[index(depth)];
  // hidden = RMSNorm(raw)
  const Tensor draw = hidden_.view(raw_.shape);
  rms_norm_backward(
      context.stream,
      {.dout = {dhidden}, .x = raw_, .weight = norm_, .rstd = rstd_, .dx = draw, .dweight = dnorm_});
  // raw = block(last_input)
  const Tensor dx = first && !detached_ ? dinput_ : dhidden.view(raw_.shape);
  block.backward_input(context, draw, at(slot).trunk.last_input, dx, saved_, gradients_, scratch_);
  block.backward_weight(context, draw, saved_, gradients_);
  return detached_ ? Tensor{} : dx;
}

void ParallelHeads::join(const LayerContext& context, int, const Tensor& gradient, bool first) const {
  if (gradient.data == dinput_.data) return;
  if (first)
    copy(context.stream, gradient.view(dinput_.shape), dinput_);
  else
    add(context.stream, gradient.view(dinput_.shape), dinput_);
}

}  // namespace foretoken
