#include "model/heads/sequential_heads.h"

#include <algorithm>

#include "model/parameter_names.h"
#include "runtime/operators/dispatch.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "runtime/operators/rowwise/rms_norm.h"

namespace foretoken {

std::vector<ParameterSpec> SequentialHeads::parameters(const ModelConfig& model, const MtpConfig&,
                                                       const std::string& prefix) {
  return MtpModule::parameters(model, prefix);
}

double SequentialHeads::cost(const ModelConfig& model, const MtpConfig&, double block) {
  const auto c = static_cast<double>(model.hidden_size);
  return block + 4 * c * c;
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
  if (!measures_gradients(mtp_)) return;
  probed_ = arena_.tensor(plan_.dtype, {plan_.shape.rows, plan_.shape.length, model_.hidden_size});
  probed_gate_up_ = arena_.tensor(plan_.dtype, {plan_.shape.tokens(), 2 * model_.intermediate_size});
}

void SequentialHeads::add_slot(const TrunkTensors& trunk, const TrunkTensors& dtrunk) {
  saved_.push_back(plan_saved(trunk));
  if (plan_.split_backward || gradients_.empty()) {
    gradients_.push_back(plan_gradients(dtrunk));
  } else {
    gradients_.push_back(gradients_.front());
    gradients_.back().draw.front() = dtrunk.raw;
    gradients_.back().dnormed.front() = dtrunk.normed;
  }
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
  gradients.draw.push_back(dtrunk.raw);
  gradients.dnormed.push_back(dtrunk.normed);
  const std::int64_t n = plan_.shape.tokens(), c = model_.hidden_size;
  for (int depth = first(); depth <= last(); ++depth) {
    gradients.draw.push_back(arena_.tensor(plan_.dtype, {n, c}));
    gradients.dnormed.push_back(arena_.tensor(plan_.dtype, {plan_.shape.rows, plan_.shape.length, c}));
    gradients.modules.push_back(MtpModule::plan_gradients(arena_, model_, plan_, scratch_));
  }
  return gradients;
}

bool SequentialHeads::reads_normed(int depth) const {
  return (depth == 1 ? mtp_.trunk_hidden : mtp_.recycled_hidden) == MtpConfig::Hidden::normed;
}

const Tensor& SequentialHeads::input_of(int depth, const Saved& saved) const {
  const std::size_t previous = state(depth - 1);
  return reads_normed(depth) ? saved.normed[previous] : saved.raw[previous];
}

void SequentialHeads::forward(const LayerContext& context, const MicrobatchInput& input, int slot) const {
  const Saved& saved = saved_[static_cast<std::size_t>(slot)];
  for (int depth = first(); depth <= std::min(input.depths.deepest(depths()), last()); ++depth) {
    const std::size_t k = state(depth), module = index(depth);
    modules_[module].forward(context, input.tokens, table_, input_of(depth, saved), saved.raw[k],
                             saved.modules[module]);
    rms_norm_forward(context.stream, {.x = saved.raw[k],
                                      .weight = norm_[module],
                                      .eps = model_.rms_norm_eps,
                                      .out = {saved.normed[k]},
                                      .rstd = saved.rstd[k]});
  }
}

Tensor SequentialHeads::hidden(const LayerContext&, int slot, int depth) const {
  return saved_[static_cast<std::size_t>(slot)].normed[state(depth)];
}

void SequentialHeads::backward(const LayerContext& context, const MicrobatchInput& input, int slot,
                               Halves halves, const DepthLoss& loss, const TrunkProbe& probe,
                               const DepthGradients& deeper) const {
  const Saved& saved = saved_[static_cast<std::size_t>(slot)];
  const Gradients& gradients = gradients_[static_cast<std::size_t>(slot)];
  const int deepest = input.depths.deepest(depths()), end = std::min(deepest, last());
  for (int depth = first(); halves.input && depth <= end; ++depth) {
    const std::size_t k = state(depth);
    loss(depth, saved.normed[k], output(depth), gradients.dnormed[k]);
    if (probe) probe_depth(context, saved, gradients, depth, depth, gradients.dnormed[k], true, probe);
  }
  const bool detached_from_it = detached_ && last() == 0;
  if (halves.input && deepest > last() && !detached_from_it)
    add_deeper_gradients(context, saved, gradients, deeper, probe);
  for (int depth = end; depth >= first(); --depth) {
    const std::size_t k = state(depth), module = index(depth);
    if (halves.input) {
      // If module k + 1 read hᵏ raw, draw already holds its gradient.
      norm_backward(context, saved, gradients, depth, gradients.dnormed[k],
                    depth < deepest && !reads_normed(depth + 1));
      const bool stops = detached_ && depth == 1, normed = reads_normed(depth);
      const Tensor& dinput = normed ? gradients.dnormed[k - 1] : gradients.draw[k - 1];
      modules_[module].backward_input(context, gradients.draw[k], input_of(depth, saved),
                                      stops ? scratch_.dnormed : dinput, normed && !stops,
                                      saved.modules[module], gradients.modules[module], scratch_);
    }
    if (halves.weight) {
      LayerContext of_depth = context;  // a repeated module's deepest depth contributes first
      of_depth.halves_run.weight |= adds_ || (mtp_.repeat && depth < end);
      modules_[module].backward_weight(of_depth, gradients.draw[k], input.tokens, dtable_,
                                       saved.modules[module], gradients.modules[module]);
    }
  }
}

void SequentialHeads::add_deeper_gradients(const LayerContext& context, const Saved& saved,
                                           const Gradients& gradients, const DepthGradients& deeper,
                                           const TrunkProbe& probe) const {
  const bool normed = reads_normed(last() + 1);
  int depth = last();
  if (probe)
    for (const Tensor& gradient : deeper.by_depth)
      probe_depth(context, saved, gradients, ++depth, last(), gradient, normed, probe);
  const std::size_t k = state(last());
  if (normed)
    add(context.stream, deeper.sum, gradients.dnormed[k]);
  else
    copy(context.stream, deeper.sum.view(gradients.draw[k].shape), gradients.draw[k]);
}

void SequentialHeads::probe_depth(const LayerContext& context, const Saved& saved, const Gradients& gradients,
                                  int depth, int module, const Tensor& gradient, bool of_normed,
                                  const TrunkProbe& probe) const {
  if (module < first()) return probe(depth, gradient);
  LayerContext measuring = context;
  measuring.measure_only = true;
  if (!of_normed) {
    const Tensor& draw = gradients.draw[state(module)];
    copy(context.stream, gradient.view(draw.shape), draw);
  }
  Tensor dnormed = of_normed ? gradient : Tensor{};
  for (; module >= first(); --module) {
    const std::size_t k = state(module);
    if (dnormed.defined()) norm_backward(measuring, saved, gradients, module, dnormed, false);
    MtpModule::Saved of_module = saved.modules[index(module)];
    copy(context.stream, of_module.block.gate_up, probed_gate_up_);
    of_module.block.gate_up = probed_gate_up_;
    const bool normed = reads_normed(module);
    modules_[index(module)].backward_input(measuring, gradients.draw[k], input_of(module, saved),
                                           normed || module == first() ? probed_ : gradients.draw[k - 1],
                                           false, of_module, gradients.modules[index(module)], scratch_);
    dnormed = normed ? probed_ : Tensor{};
  }
  probe(depth, probed_);
}

void SequentialHeads::norm_backward(const LayerContext& context, const Saved& saved,
                                    const Gradients& gradients, int depth, const Tensor& dnormed,
                                    bool accumulate) const {
  const std::size_t k = state(depth);
  rms_norm_backward(context.stream, {.dout = {dnormed},
                                     .x = saved.raw[k],
                                     .weight = norm_[index(depth)],
                                     .rstd = saved.rstd[k],
                                     .residual = accumulate ? gradients.draw[k] : Tensor{},
                                     .dx = gradients.draw[k],
                                     .dweight = context.measure_only ? Tensor{} : dnorm_[index(depth)]});
}

}  // namespace foretoken
