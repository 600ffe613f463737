#include "model/heads/sequential_heads.h"

#include <algorithm>
#include <utility>

#include "model/parameter_names.h"
#include "runtime/operators/dispatch.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "runtime/operators/rowwise/rms_norm.h"

namespace foretoken {

std::vector<ParameterSpec> SequentialHeads::parameters(const ModelConfig& model, const MtpConfig&,
                                                       const std::string& prefix) {
  return MtpModule::parameters(model, prefix);
}

SequentialHeads::SequentialHeads(const HeadsPlan& plan)
    : PredictionHeads(plan, Outputs::shared),
      model_(plan.model),
      mtp_(plan.mtp),
      arena_(plan.arena),
      plan_(plan.activations),
      scratch_(plan.scratch) {
  if (first() > last()) return;
  table_ = plan.parameters.weight(embedding_name);
  if (!detached_) dtable_ = plan.parameters.gradient(embedding_name);
  for (int depth = first(); depth <= last(); ++depth) {
    const std::string prefix = mtp_prefix(model_, mtp_, depth);
    modules_.emplace_back(model_, mtp_, plan.parameters, prefix, depth, plan_);
    adds_ = !plan.parameters.spec(prefix + ".eh_proj.weight").gradient_overwritten;
    norm_.push_back(plan.parameters.weight(prefix + ".shared_head.norm.weight"));
    dnorm_.push_back(plan.parameters.gradient(prefix + ".shared_head.norm.weight"));
  }
  if (measures_gradients(mtp_))
    probing_ = {
        .gradient = arena_.tensor(plan_.dtype, {plan_.shape.rows, plan_.shape.length, model_.hidden_size}),
        .dgate_up = arena_.tensor(plan_.dtype, {plan_.shape.tokens(), 2 * model_.intermediate_size})};
}

void SequentialHeads::add_slot(const TrunkTensors& trunk, const TrunkTensors& dtrunk) {
  Slot slot{.saved = plan_saved(trunk), .gradients = {}};
  if (plan_.split_backward || slots_.empty()) {
    slot.gradients = plan_gradients(dtrunk);
  } else {
    slot.gradients = slots_.front().gradients;
    slot.gradients.raw.front() = dtrunk.raw;
    slot.gradients.normed.front() = dtrunk.normed;
  }
  slots_.push_back(std::move(slot));
}

SequentialHeads::Saved SequentialHeads::plan_saved(const TrunkTensors& trunk) {
  Saved saved;
  saved.raw.push_back(trunk.raw);
  saved.rstd.emplace_back();
  saved.normed.push_back(trunk.normed);
  const std::int64_t n = plan_.shape.tokens(), c = model_.hidden_size;
  for (int depth = first(); depth <= last(); ++depth) {
    saved.raw.push_back(arena_.tensor(plan_.dtype, {n, c}));
    saved.rstd.push_back(arena_.tensor(statistics_dtype(plan_.dtype), {n}));
    saved.normed.push_back(arena_.tensor(plan_.dtype, {plan_.shape.rows, plan_.shape.length, c}));
    saved.modules.push_back(MtpModule::plan_saved(arena_, model_, plan_, scratch_));
  }
  return saved;
}

SequentialHeads::Gradients SequentialHeads::plan_gradients(const TrunkTensors& dtrunk) {
  Gradients gradients;
  gradients.raw.push_back(dtrunk.raw);
  gradients.normed.push_back(dtrunk.normed);
  const std::int64_t n = plan_.shape.tokens(), c = model_.hidden_size;
  for (int depth = first(); depth <= last(); ++depth) {
    gradients.raw.push_back(arena_.tensor(plan_.dtype, {n, c}));
    gradients.normed.push_back(arena_.tensor(plan_.dtype, {plan_.shape.rows, plan_.shape.length, c}));
    gradients.modules.push_back(MtpModule::plan_gradients(arena_, model_, plan_, scratch_));
  }
  return gradients;
}

bool SequentialHeads::reads_normed(int depth) const {
  return foretoken::reads_normed(mtp_, depth);
}

const Tensor& SequentialHeads::input_of(int depth, const Saved& saved) const {
  const std::size_t previous = state(depth - 1);
  return reads_normed(depth) ? saved.normed[previous] : saved.raw[previous];
}

void SequentialHeads::forward(const StagePass& pass) const {
  const Saved& saved = at(pass.slot).saved;
  const int end = std::min(pass.input.depths.deepest(depths()), last());
  for (int depth = first(); depth <= end; ++depth) {
    const std::size_t k = state(depth), module = index(depth);
    modules_[module].forward(pass.layers, {.tokens = pass.input.tokens,
                                           .table = table_,
                                           .hidden = input_of(depth, saved),
                                           .out = saved.raw[k],
                                           .saved = saved.modules[module]});
    rms_norm_forward(pass.stream(), {.x = saved.raw[k],
                                     .weight = norm_[module],
                                     .eps = model_.rms_norm_eps,
                                     .out = {saved.normed[k]},
                                     .rstd = saved.rstd[k]});
  }
}

Tensor SequentialHeads::hidden(const LayerContext&, int slot, int depth) const {
  return at(slot).saved.normed[state(depth)];
}

void SequentialHeads::backward(const Backward& op) const {
  const StagePass& pass = op.pass;
  const auto& [saved, gradients] = at(pass.slot);
  const int deepest = pass.input.depths.deepest(depths()), end = std::min(deepest, last());
  if (op.halves.input) {
    for (int depth = first(); depth <= end; ++depth) {
      const Tensor& dnormed = gradients.normed[state(depth)];
      op.loss({.depth = depth,
               .hidden = saved.normed[state(depth)],
               .matrix = output(depth),
               .dhidden = dnormed});
      if (op.probe) probe_depth(pass, {.depth = depth, .module = depth, .gradient = dnormed}, *op.probe);
    }
    const bool ends_at_trunk = detached_ && last() == 0;
    if (deepest > last() && !ends_at_trunk) add_deeper_gradients(pass, *op.deeper, op.probe);
  }
  for (int depth = end; depth >= first(); --depth) {
    if (op.halves.input) depth_backward_input(pass, depth);
    if (op.halves.weight) depth_backward_weight(pass, depth, end);
  }
}

void SequentialHeads::depth_backward_input(const StagePass& pass, int depth) const {
  const auto& [saved, gradients] = at(pass.slot);
  const std::size_t k = state(depth);
  // If module k + 1 reads hᵏ before its norm, gradients.raw already holds its contribution.
  const bool deeper_read_raw = depth < pass.input.depths.deepest(depths()) && !reads_normed(depth + 1);
  norm_backward(pass.layers, at(pass.slot), depth, gradients.normed[k], deeper_read_raw);
  // Detached heads give the trunk no gradient: module 1 writes the gradient of its input to scratch memory.
  const bool stops = detached_ && depth == 1, normed = reads_normed(depth);
  const Tensor& dinput = normed ? gradients.normed[k - 1] : gradients.raw[k - 1];
  modules_[index(depth)].backward_input(pass.layers, {.dout = gradients.raw[k],
                                                      .hidden = input_of(depth, saved),
                                                      .dhidden = stops ? scratch_.dnormed : dinput,
                                                      .accumulate = normed && !stops,
                                                      .saved = saved.modules[index(depth)],
                                                      .gradients = gradients.modules[index(depth)],
                                                      .scratch = scratch_});
}

void SequentialHeads::depth_backward_weight(const StagePass& pass, int depth, int end) const {
  const auto& [saved, gradients] = at(pass.slot);
  LayerContext context = pass.layers;  // a repeated module's deepest depth contributes first
  context.halves_run.weight |= adds_ || (mtp_.repeat && depth < end);
  modules_[index(depth)].backward_weight(context, {.dout = gradients.raw[state(depth)],
                                                   .tokens = pass.input.tokens,
                                                   .dtable = dtable_,
                                                   .saved = saved.modules[index(depth)],
                                                   .gradients = gradients.modules[index(depth)]});
}

void SequentialHeads::add_deeper_gradients(const StagePass& pass, const DepthGradients& deeper,
                                           const TrunkProbe* probe) const {
  const Gradients& gradients = at(pass.slot).gradients;
  const bool normed = reads_normed(last() + 1);
  int depth = last();
  if (probe)
    for (const Tensor& gradient : deeper.by_depth)
      probe_depth(pass, {.depth = ++depth, .module = last(), .gradient = gradient, .of_normed = normed},
                  *probe);
  const std::size_t k = state(last());
  if (normed)
    add(pass.stream(), deeper.sum, gradients.normed[k]);
  else
    copy(pass.stream(), deeper.sum.view(gradients.raw[k].shape), gradients.raw[k]);
}

void SequentialHeads::probe_depth(const StagePass& pass, const ChainGradient& from,
                                  const TrunkProbe& probe) const {
  if (from.module < first()) return probe.add(pass, from.depth, from.gradient);
  const auto& [saved, gradients] = at(pass.slot);
  LayerContext context = pass.layers;
  context.measure_only = true;
  if (!from.of_normed) {
    const Tensor& raw_gradient = gradients.raw[state(from.module)];
    copy(context.stream, from.gradient.view(raw_gradient.shape), raw_gradient);
  }
  Tensor gradient = from.gradient;
  bool of_normed = from.of_normed;
  for (int module = from.module; module >= first(); --module) {
    const std::size_t k = state(module);
    if (of_normed) norm_backward(context, at(pass.slot), module, gradient, false);
    MtpModule::Saved of_module = saved.modules[index(module)];
    of_module.block.dgate_up = probing_->dgate_up;
    of_normed = reads_normed(module);
    gradient = of_normed || module == first() ? probing_->gradient : gradients.raw[k - 1];
    modules_[index(module)].backward_input(context, {.dout = gradients.raw[k],
                                                     .hidden = input_of(module, saved),
                                                     .dhidden = gradient,
                                                     .accumulate = false,
                                                     .saved = of_module,
                                                     .gradients = gradients.modules[index(module)],
                                                     .scratch = scratch_});
  }
  probe.add(pass, from.depth, probing_->gradient);
}

void SequentialHeads::norm_backward(const LayerContext& context, const Slot& slot, int depth,
                                    const Tensor& dnormed, bool accumulate) const {
  const std::size_t k = state(depth);
  const Tensor& raw_gradient = slot.gradients.raw[k];
  rms_norm_backward(context.stream, {.dout = {dnormed},
                                     .x = slot.saved.raw[k],
                                     .weight = norm_[index(depth)],
                                     .rstd = slot.saved.rstd[k],
                                     .residual = accumulate ? raw_gradient : Tensor{},
                                     .dx = raw_gradient,
                                     .dweight = context.measure_only ? Tensor{} : dnorm_[index(depth)]});
}

}  // namespace foretoken
