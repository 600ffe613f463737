#include "model/predictor.h"

#include <algorithm>
#include <string>

#include "model/heads/head_kinds.h"
#include "model/parameter_names.h"
#include "runtime/operators/dispatch.h"
#include "runtime/operators/parameters/reductions.h"
#include "runtime/operators/products/linear.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "runtime/operators/rowwise/rms_norm.h"
#include "runtime/operators/vocabulary/acceptance.h"

namespace foretoken {

namespace {

/// Rows per chunk of logits, at most those of the microbatch. On a CPU a chunk is a few megabytes, to fit its
/// caches; on a GPU half a GiB, so that the head's weight gradient is read and written few times.
std::int64_t logit_rows(const ModelConfig& config, const ActivationPlan& plan, DeviceKind device) {
  const std::int64_t elements = std::int64_t{1} << (device == DeviceKind::cpu ? 20 : 28);
  return std::clamp<std::int64_t>(elements / config.vocab_size,
                                  std::min<std::int64_t>(64, plan.shape.tokens()), plan.shape.tokens());
}

}  // namespace

Predictor::Predictor(const HeadsPlan& plan, bool main)
    : arena_(plan.arena),
      eps_(plan.model.rms_norm_eps),
      main_(main),
      frozen_(plan.frozen_trunk),
      plan_(plan.activations) {
  if (main) {
    norm_ = plan.parameters.weight(final_norm_name);
    dnorm_ = plan.parameters.gradient(final_norm_name);
    const std::string matrix = output_matrix_name(plan.model);
    head_ = {.weight = plan.parameters.weight(matrix),
             .gradient = frozen_ ? Tensor{} : plan.parameters.gradient(matrix),
             // With tied weights the embedding adds to this gradient.
             .gradient_overwritten = plan.parameters.spec(matrix).gradient_overwritten};
  }
  if (plan.mtp.depths > 0) heads_ = head_kind(plan.mtp.kind).make(plan);
  logits_ =
      arena_.tensor(plan_.dtype, {logit_rows(plan.model, plan_, arena_.device()), plan.model.vocab_size});
  if (!heads_) return;
  for (Tensor* tokens : {&main_argmax_, &argmax_, &agrees_})
    *tokens = arena_.tensor(DType::i32, {plan_.shape.rows, plan_.shape.length});
  if (!main || !measures_gradients(plan.mtp)) return;
  const Shape hidden{plan_.shape.tokens(), plan.model.hidden_size};
  if (heads_->reads() != &TrunkTensors::last_input)
    main_gradient_ = arena_.tensor(plan_.dtype, hidden);
  else
    for (int depth = 1; depth <= heads_->depths(); ++depth)
      depth_gradients_.push_back(arena_.tensor(plan_.dtype, hidden));
}

void Predictor::add_slot(TrunkTensors trunk, TrunkTensors dtrunk, const Links& links) {
  Slot slot{.trunk = trunk, .dtrunk = dtrunk, .rstd = {}, .links = links};
  if (main_) {
    const Shape rows{plan_.shape.rows, plan_.shape.length, norm_.elements()};
    slot.trunk.normed = arena_.tensor(plan_.dtype, rows);
    slot.dtrunk.normed = plan_.split_backward || slots_.empty() ? arena_.tensor(plan_.dtype, rows)
                                                                : slots_.front().dtrunk.normed;
    slot.rstd = arena_.tensor(statistics_dtype(plan_.dtype), {plan_.shape.tokens()});
  } else {
    const auto reads = heads_->reads();
    const Tensor &hidden = links.from.hidden, &gradient = links.from.gradients.sum;
    const Shape shape =
        reads == &TrunkTensors::normed ? hidden.shape : Shape{plan_.shape.tokens(), hidden.shape[2]};
    slot.trunk.*reads = hidden.view(shape);
    slot.dtrunk.*reads = gradient.view(shape);
  }
  slots_.push_back(slot);
  if (heads_) heads_->add_slot(slot.trunk, slot.dtrunk);
}

void Predictor::forward(const LayerContext& context, const MicrobatchInput& input, int slot) const {
  const auto& [trunk, dtrunk, rstd, links] = at(slot);
  if (main_)
    rms_norm_forward(context.stream,
                     {.x = trunk.raw, .weight = norm_, .eps = eps_, .out = {trunk.normed}, .rstd = rstd});
  if (heads_) heads_->forward(context, input, slot);
  if (links.to.defined())
    copy(context.stream, heads_->next_depth_input(slot).view(links.to.hidden.shape), links.to.hidden);
}

void Predictor::backward(const LayerContext& context, const MicrobatchInput& input, int slot, Halves halves,
                         std::span<const double> gradient_scales, const StepSums& sums) const {
  const auto& [trunk, dtrunk, rstd, links] = at(slot);
  const auto loss = [&](int depth, const Tensor& hidden, const OutputMatrix& matrix, const Tensor& dhidden) {
    compute_loss(context, input, slot,
                 {.x = hidden,
                  .weight = matrix.weight,
                  .gradient_scale = gradient_scales[static_cast<std::size_t>(depth)],
                  .dx = dhidden,
                  .dweight = matrix.gradient,
                  .accumulate = context.halves_run.input || !matrix.gradient_overwritten},
                 depth, sums);
  };
  if (halves.input && main_) loss(0, trunk.normed, head_, frozen_ ? Tensor{} : dtrunk.normed);
  if (halves.input && !main_) begin_gradient(context, at(slot));
  if (heads_) {
    const TrunkProbe probe = probe_into(context, slot, sums);
    if (probe && halves.input && main_) measure_main(context, at(slot), sums);
    heads_->backward(context, input, slot, halves, loss, probe, links.to.gradients);
  }
  if (halves.input && !main_) end_gradient(context, input, at(slot));
  if (!halves.input || frozen_ || !main_) return;
  // n⁰ = RMSNorm(x); if a head read x itself, dtrunk.raw already holds that gradient.
  const bool raw_was_taken = heads_ && heads_->writes_raw_gradient() && input.depths.has(1);
  rms_norm_backward(context.stream, {.dout = {dtrunk.normed},
                                     .x = trunk.raw,
                                     .weight = norm_,
                                     .rstd = rstd,
                                     .residual = raw_was_taken ? dtrunk.raw : Tensor{},
                                     .dx = dtrunk.raw,
                                     .dweight = dnorm_});
}

/// Heads add to the gradient of the link's input, which therefore starts at zero.
void Predictor::begin_gradient(const LayerContext& context, const Slot& slot) const {
  set_zero(context.stream, slot.links.from.gradients.sum);
}

void Predictor::end_gradient(const LayerContext& context, const MicrobatchInput& input,
                             const Slot& slot) const {
  const Tensor gradient = heads_->last_input_gradient(), &out = slot.links.from.gradients.sum;
  if (gradient.defined() && input.depths.deepest(heads_->depths()) >= heads_->first())
    copy(context.stream, gradient.view(out.shape), out);
}

void Predictor::compute_loss(const LayerContext& context, const MicrobatchInput& input, int slot,
                             CrossEntropyHead loss, int depth, const StepSums& sums) const {
  loss.targets = {.tokens = input.tokens, .document_start = input.document_start, .ahead = depth + 1};
  loss.logits = logits_;
  loss.loss_sum = sums.losses.flat(depth, 1);
  const bool counts = heads_ && sums.accepted.defined();
  if (counts) loss.argmax = depth == 0 ? main_argmax_ : argmax_;
  cross_entropy_head(context.stream, loss);
  if (!counts || depth == 0) return;
  const HeadsLink& from = at(slot).links.from;
  count_acceptances(context.stream, {.main = main_ ? main_argmax_ : from.main_argmax,
                                     .draft = argmax_,
                                     .document_start = input.document_start,
                                     .depth = depth,
                                     .agrees = main_ ? agrees_ : from.agrees,
                                     .drafts = sums.drafts.flat(depth - 1, 1),
                                     .accepted = sums.accepted.flat(depth - 1, 1)});
}

void Predictor::measure_main(const LayerContext& context, const Slot& slot, const StepSums& sums) const {
  const auto reads = heads_->reads();
  if (reads == &TrunkTensors::last_input) return;
  if (reads == &TrunkTensors::normed)
    copy(context.stream, slot.dtrunk.normed.view(main_gradient_.shape), main_gradient_);
  else
    rms_norm_backward(context.stream, {.dout = {slot.dtrunk.normed},
                                       .x = slot.trunk.raw,
                                       .weight = norm_,
                                       .rstd = slot.rstd,
                                       .dx = main_gradient_});
  sum_of_squares(context.stream, {main_gradient_, sums.squares.flat(0, 1)});
}

TrunkProbe Predictor::probe_into(const LayerContext& context, int slot, const StepSums& sums) const {
  if (!sums.squares.defined() || !heads_->reaches_trunk()) return {};
  if (!main_)  // the main head's stage measures it
    return [this, &context, slot](int depth, const Tensor& gradient) {
      const Tensor& out =
          at(slot).links.from.gradients.by_depth[static_cast<std::size_t>(depth - heads_->first())];
      copy(context.stream, gradient.view(out.shape), out);
    };
  return [this, &context, &sums](int depth, const Tensor& gradient) {
    sum_of_squares(context.stream, {gradient, sums.squares.flat(depth, 1)});
    if (main_gradient_.defined()) {
      inner_product(context.stream, {gradient, main_gradient_, sums.products.flat(depth - 1, 1)});
    } else {
      const Tensor& kept = depth_gradients_[static_cast<std::size_t>(depth) - 1];
      copy(context.stream, gradient.view(kept.shape), kept);
    }
  };
}

void Predictor::measure_last_input(const LayerContext& context, const Tensor& gradient,
                                   const StepSums& sums) const {
  if (!sums.squares.defined() || depth_gradients_.empty()) return;
  sum_of_squares(context.stream, {gradient, sums.squares.flat(0, 1)});
  for (std::size_t k = 0; k < depth_gradients_.size(); ++k)
    inner_product(context.stream,
                  {depth_gradients_[k], gradient, sums.products.flat(static_cast<std::int64_t>(k), 1)});
}

Tensor Predictor::last_input_gradient(const MicrobatchInput& input) const {
  return heads_ && input.depths.deepest(heads_->depths()) > 0 ? heads_->last_input_gradient() : Tensor{};
}

Tensor Predictor::hidden(const LayerContext& context, int slot, int depth) const {
  return depth == 0 ? at(slot).trunk.normed : heads_->hidden(context, slot, depth);
}

void Predictor::logits(const LayerContext& context, int slot, int depth, const Tensor& out) const {
  linear_forward(context.stream,
                 {.x = hidden(context, slot, depth), .weight = output(depth).weight, .out = out});
}

void Predictor::evaluate(const LayerContext& context, const MicrobatchInput& input, int slot,
                         const StepSums& sums) const {
  const auto take = [&](int depth) {
    compute_loss(context, input, slot, {.x = hidden(context, slot, depth), .weight = output(depth).weight},
                 depth, sums);
  };
  if (main_) take(0);
  for (int depth = heads_ ? heads_->first() : 1; heads_ && depth <= heads_->last(); ++depth) take(depth);
  const auto& [from, to] = at(slot).links;
  if (!to.defined()) return;
  copy(context.stream, main_ ? main_argmax_ : from.main_argmax, to.main_argmax);
  if (!main_) copy(context.stream, from.agrees, to.agrees);  // depth 1 initializes agrees
}

}  // namespace foretoken
