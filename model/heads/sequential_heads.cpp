#include "model/heads/sequential_heads.h"

#include "model/layout.h"
#include "runtime/operators/dispatch.h"
#include "runtime/operators/elementwise.h"
#include "runtime/operators/rms_norm.h"

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
    : PredictionHeads(plan),
      model_(plan.model),
      mtp_(plan.mtp),
      arena_(plan.arena),
      plan_(plan.activations),
      scratch_(plan.scratch),
      table_(plan.parameters.weight(embedding_name)),
      dtable_(detached_ ? Tensor{} : plan.parameters.gradient(embedding_name)) {
  for (int depth = 1; depth <= depths(); ++depth) {
    const std::string prefix = mtp_prefix(model_, mtp_, depth);
    modules_.emplace_back(model_, mtp_, plan.parameters, prefix, depth, plan_.recompute);
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
  for (int depth = 1; depth <= depths(); ++depth) {
    saved.raw.push_back(arena_.tensor(plan_.dtype, trunk.raw.shape));
    saved.rstd.push_back(arena_.tensor(statistics_dtype(plan_.dtype), {plan_.shape.tokens()}));
    saved.normed.push_back(arena_.tensor(plan_.dtype, trunk.normed.shape));
    saved.modules.push_back(MtpModule::plan_saved(arena_, model_, plan_, scratch_));
  }
  return saved;
}

SequentialHeads::Gradients SequentialHeads::plan_gradients(const TrunkTensors& dtrunk) {
  Gradients gradients;
  gradients.draw.push_back(dtrunk.raw);
  gradients.dnormed.push_back(dtrunk.normed);
  for (int depth = 1; depth <= depths(); ++depth) {
    gradients.draw.push_back(arena_.tensor(plan_.dtype, dtrunk.raw.shape));
    gradients.dnormed.push_back(arena_.tensor(plan_.dtype, dtrunk.normed.shape));
    gradients.modules.push_back(MtpModule::plan_gradients(arena_, model_, plan_, scratch_));
  }
  return gradients;
}

bool SequentialHeads::takes_normed(int depth) const {
  return (depth == 1 ? mtp_.trunk_hidden : mtp_.recycled_hidden) == MtpConfig::Hidden::normed;
}

const Tensor& SequentialHeads::input_of(int depth, const Saved& saved) const {
  const auto previous = static_cast<std::size_t>(depth - 1);
  return takes_normed(depth) ? saved.normed[previous] : saved.raw[previous];
}

void SequentialHeads::forward(const LayerContext& context, const MicrobatchInput& input, int slot) const {
  const Saved& saved = saved_[static_cast<std::size_t>(slot)];
  for (int depth = 1; depth <= input.depths.deepest(depths()); ++depth) {
    const auto k = static_cast<std::size_t>(depth);
    modules_[k - 1].forward(context, input.tokens, table_, input_of(depth, saved), saved.raw[k],
                            saved.modules[k - 1]);
    rms_norm_forward(context.stream, {.x = saved.raw[k],
                                      .weight = norm_[k - 1],
                                      .eps = model_.rms_norm_eps,
                                      .out = {saved.normed[k]},
                                      .rstd = saved.rstd[k]});
  }
}

Tensor SequentialHeads::hidden(const LayerContext&, int slot, int depth) const {
  return saved_[static_cast<std::size_t>(slot)].normed[static_cast<std::size_t>(depth)];
}

void SequentialHeads::backward(const LayerContext& context, const MicrobatchInput& input, int slot,
                               Halves halves, const DepthLoss& loss, const TrunkProbe& probe) const {
  const Saved& saved = saved_[static_cast<std::size_t>(slot)];
  const Gradients& gradients = gradients_[static_cast<std::size_t>(slot)];
  const int deepest = input.depths.deepest(depths());
  for (int depth = 1; halves.input && depth <= deepest; ++depth) {
    const auto k = static_cast<std::size_t>(depth);
    loss(depth, saved.normed[k], output(depth), gradients.dnormed[k]);
    if (probe) probe_depth(context, saved, gradients, depth, probe);
  }
  for (int depth = deepest; depth > 0; --depth) {
    const auto k = static_cast<std::size_t>(depth);
    if (halves.input) {
      // Where module k + 1 took hᵏ raw, its gradient is in draw already.
      norm_backward(context, saved, gradients, depth, gradients.dnormed[k],
                    depth < deepest && !takes_normed(depth + 1));
      const bool stops = detached_ && depth == 1, normed = takes_normed(depth);
      const Tensor& dinput = normed ? gradients.dnormed[k - 1] : gradients.draw[k - 1];
      modules_[k - 1].backward_input(context, gradients.draw[k], input_of(depth, saved),
                                     stops ? scratch_.dnormed : dinput, normed && !stops,
                                     saved.modules[k - 1], gradients.modules[k - 1], scratch_);
    }
    if (halves.weight) {
      LayerContext of_depth = context;  // a module that is repeated has added its deepest depth first
      of_depth.begun.weight |= mtp_.repeat && depth < deepest;
      modules_[k - 1].backward_weight(of_depth, gradients.draw[k], input.tokens, dtable_,
                                      saved.modules[k - 1], gradients.modules[k - 1]);
    }
  }
}

void SequentialHeads::probe_depth(const LayerContext& context, const Saved& saved, const Gradients& gradients,
                                  int depth, const TrunkProbe& probe) const {
  LayerContext measured = context;
  measured.measured = true;
  Tensor dnormed = gradients.dnormed[static_cast<std::size_t>(depth)];
  for (int module = depth; module > 0; --module) {
    const auto k = static_cast<std::size_t>(module);
    if (dnormed.defined()) norm_backward(measured, saved, gradients, module, dnormed, false);
    MtpModule::Saved of_module = saved.modules[k - 1];
    copy(context.stream, of_module.block.gate_up, probed_gate_up_);
    of_module.block.gate_up = probed_gate_up_;
    const bool normed = takes_normed(module);
    modules_[k - 1].backward_input(measured, gradients.draw[k], input_of(module, saved),
                                   normed || module == 1 ? probed_ : gradients.draw[k - 1], false, of_module,
                                   gradients.modules[k - 1], scratch_);
    dnormed = normed ? probed_ : Tensor{};
  }
  probe(depth, probed_);
}

void SequentialHeads::norm_backward(const LayerContext& context, const Saved& saved,
                                    const Gradients& gradients, int depth, const Tensor& dnormed,
                                    bool accumulate) const {
  const auto k = static_cast<std::size_t>(depth);
  rms_norm_backward(context.stream, {.dout = {dnormed},
                                     .x = saved.raw[k],
                                     .weight = norm_[k - 1],
                                     .rstd = saved.rstd[k],
                                     .residual = accumulate ? gradients.draw[k] : Tensor{},
                                     .dx = gradients.draw[k],
                                     .dweight = context.measured ? Tensor{} : dnorm_[k - 1]});
}

}  // namespace foretoken
