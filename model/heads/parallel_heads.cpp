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
  draw_ = hidden_.view({n, c});  // only the loss reads hidden_, before backward writes draw_
}

Tensor ParallelHeads::hidden(const LayerContext& context, int slot, int depth) const {
  blocks_[index(depth)].forward(context, at(slot).trunk.last_input, raw_, saved_);
  rms_norm_forward(context.stream,
                   {.x = raw_, .weight = norm_, .eps = eps_, .out = {hidden_}, .rstd = rstd_});
  return hidden_;
}

std::optional<Tensor> ParallelHeads::head_backward(const Turn& turn) const {
  const Block& block = blocks_[index(turn.depth)];
  // hidden = RMSNorm(raw)
  rms_norm_backward(
      turn.context.stream,
      {.dout = {dhidden()}, .x = raw_, .weight = norm_, .rstd = rstd_, .dx = draw_, .dweight = dnorm_});
  // raw = block(last_input). The first head writes the gradient of its input to dinput_. Later heads, and
  // detached ones, write it over dhidden, which is not read again.
  const Tensor dx = turn.first && dinput_ ? *dinput_ : dhidden().view(raw_.shape);
  block.backward_input(turn.context, {.dout = draw_,
                                      .x = at(turn.slot).trunk.last_input,
                                      .dx = dx,
                                      .saved = saved_,
                                      .gradients = gradients_,
                                      .scratch = scratch_});
  block.backward_weight(turn.context, draw_, saved_, gradients_);
  if (detached_) return std::nullopt;
  return dx;
}

void ParallelHeads::join(const Turn& turn, const Tensor& gradient) const {
  if (gradient.data == dinput_->data) return;
  if (turn.first)
    copy(turn.context.stream, gradient.view(dinput_->shape), *dinput_);
  else
    add(turn.context.stream, gradient.view(dinput_->shape), *dinput_);
}

}  // namespace foretoken
