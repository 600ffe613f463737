#include "model/stage/predictor.h"

#include "runtime/operators/products/linear.h"
#include "runtime/operators/rowwise/elementwise.h"

namespace foretoken {

Predictor::Predictor(const HeadsPlan& plan, bool main) : losses_(plan) {
  if (main) main_.emplace(plan);
  if (plan.mtp.depths > 0) heads_.emplace(plan);
  if (main && measures_gradients(plan.mtp)) trunk_gradients_.emplace(plan, heads_->heads().reads());
}

void Predictor::add_slot(TrunkTensors trunk, TrunkTensors dtrunk, const HostedHeads::Links& links) {
  if (main_) main_->add_slot(trunk, dtrunk);
  if (heads_) heads_->add_slot(trunk, dtrunk, links);
}

void Predictor::forward(const StagePass& pass) const {
  if (main_) main_->forward(pass.layers, pass.slot);
  if (heads_) heads_->forward(pass);
}

void Predictor::backward(const BackwardPass& op) const {
  const StagePass& pass = op.pass;
  const DepthLoss loss = [&](const DepthOutput& output) {
    losses_.run(pass, tokens(pass.slot),
                {.output = output,
                 .gradient_scale = op.gradient_scales[static_cast<std::size_t>(output.depth)],
                 .accumulate = pass.layers.halves_run.input || !output.matrix.gradient_overwritten});
  };
  if (op.halves.input && main_) loss(main_->output(pass.slot));
  if (heads_) {
    const TrunkGradients* probe = pass.request.trunk_gradients && main_ ? &*trunk_gradients_ : nullptr;
    if (probe && op.halves.input && probe->main_first()) {
      main_->trunk_gradient(pass.layers, pass.slot, heads_->heads().reads(), probe->main_gradient());
      probe->add_main(pass);
    }
    heads_->backward(op, loss, probe);
  }
  if (!op.halves.input || !main_) return;
  const bool heads_wrote_raw = heads_ && heads_->heads().writes_raw_gradient() && pass.input.depths.has(1);
  main_->backward(pass.layers, pass.slot, heads_wrote_raw);
}

void Predictor::join_last_input(const StagePass& pass, const Tensor& dx) const {
  if (!heads_) return;
  if (pass.request.trunk_gradients && !trunk_gradients_->main_first())
    trunk_gradients_->add_main_last(pass, dx);
  const std::optional<Tensor> gradient = heads_->heads().last_input_gradient();
  if (gradient && pass.input.depths.deepest(heads_->heads().depths()) > 0) add(pass.stream(), *gradient, dx);
}

const AcceptanceTokens& Predictor::tokens(int slot) const {
  return main_ ? losses_.tokens() : heads_->links(slot).previous->tokens;
}

Tensor Predictor::hidden(const LayerContext& context, int slot, int depth) const {
  return depth == 0 ? main_->output(slot).hidden : heads_->heads().hidden(context, slot, depth);
}

void Predictor::logits(const LayerContext& context, int slot, int depth, const Tensor& out) const {
  linear_forward(context.stream,
                 {.x = hidden(context, slot, depth), .weight = matrix(depth).weight, .out = out});
}

void Predictor::run_outputs(const StagePass& pass, bool losses) const {
  const auto run = [&](int depth) {
    const DepthOutput output{.depth = depth,
                             .hidden = hidden(pass.layers, pass.slot, depth),
                             .matrix = {.weight = matrix(depth).weight, .gradient = {}},
                             .dhidden = {}};
    losses_.run(pass, tokens(pass.slot), {.output = output, .loss = losses});
  };
  if (main_) run(0);
  if (!heads_) return;
  for (int depth = heads_->heads().first(); depth <= heads_->heads().last(); ++depth) run(depth);
  if (pass.request.acceptance) heads_->send_tokens(pass, tokens(pass.slot));
}

}  // namespace foretoken
