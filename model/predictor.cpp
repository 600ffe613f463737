#include "model/predictor.h"

#include <algorithm>

#include "model/layout.h"
#include "runtime/operators/dispatch.h"
#include "runtime/operators/linear.h"
#include "runtime/operators/rms_norm.h"

namespace foretoken {

namespace {

/// Rows of logits at a time, never more than the microbatch has. On the CPU a few megabytes, which its caches
/// like; on a GPU half a GiB, so that the head's weight gradient is read and written seldom.
std::int64_t logit_rows(const ModelConfig& config, const ActivationPlan& plan, DeviceKind device) {
  const std::int64_t elements = std::int64_t{1} << (device == DeviceKind::cpu ? 20 : 28);
  return std::clamp<std::int64_t>(elements / config.vocab_size,
                                  std::min<std::int64_t>(64, plan.shape.tokens()), plan.shape.tokens());
}

}  // namespace

Predictor::Predictor(const HeadsPlan& plan)
    : arena_(plan.arena),
      eps_(plan.model.rms_norm_eps),
      frozen_(plan.frozen_trunk),
      plan_(plan.activations),
      norm_(plan.parameters.weight(final_norm_name)),
      dnorm_(plan.parameters.gradient(final_norm_name)),
      head_{.weight = plan.parameters.weight(output_matrix_name(plan.model)),
            .gradient = frozen_ ? Tensor{} : plan.parameters.gradient(output_matrix_name(plan.model)),
            // Where they are tied, the embedding adds to it.
            .begins = !plan.model.tie_word_embeddings} {
  if (plan.mtp.depths > 0) heads_ = head_kind(plan.mtp.kind).make(plan);
  logits_ =
      arena_.tensor(plan_.dtype, {logit_rows(plan.model, plan_, arena_.device()), plan.model.vocab_size});
}

void Predictor::add_slot(TrunkTensors trunk, TrunkTensors dtrunk) {
  const Shape rows{plan_.shape.rows, plan_.shape.length, norm_.elements()};
  trunk.normed = arena_.tensor(plan_.dtype, rows);
  dtrunk.normed = plan_.split_backward || slots_.empty() ? arena_.tensor(plan_.dtype, rows)
                                                         : slots_.front().dtrunk.normed;
  slots_.push_back({.trunk = trunk,
                    .dtrunk = dtrunk,
                    .rstd = arena_.tensor(statistics_dtype(plan_.dtype), {plan_.shape.tokens()})});
  if (heads_) heads_->add_slot(trunk, dtrunk);
}

void Predictor::forward(const LayerContext& context, const MicrobatchInput& input, int slot) const {
  const auto& [trunk, dtrunk, rstd] = at(slot);
  rms_norm_forward(context.stream,
                   {.x = trunk.raw, .weight = norm_, .eps = eps_, .out = {trunk.normed}, .rstd = rstd});
  if (heads_) heads_->forward(context, input, slot);
}

void Predictor::backward(const LayerContext& context, const MicrobatchInput& input, int slot, Halves halves,
                         std::span<const double> gradient_scales, const Tensor& losses) const {
  const auto& [trunk, dtrunk, rstd] = at(slot);
  const auto loss = [&](int depth, const Tensor& hidden, const OutputMatrix& matrix, const Tensor& dhidden) {
    cross_entropy_head(
        context.stream,
        {.x = hidden,
         .weight = matrix.weight,
         .targets = {.tokens = input.tokens, .document_start = input.document_start, .ahead = depth + 1},
         .gradient_scale = gradient_scales[static_cast<std::size_t>(depth)],
         .logits = logits_,
         .loss_sum = losses.flat(depth, 1),
         .dx = dhidden,
         .dweight = matrix.gradient,
         .accumulate = context.begun.input || !matrix.begins});
  };
  if (halves.input) loss(0, trunk.normed, head_, frozen_ ? Tensor{} : dtrunk.normed);
  if (heads_) heads_->backward(context, input, slot, halves, loss);
  if (!halves.input || frozen_) return;
  // n⁰ = RMSNorm(x); where a head took x itself, that gradient is in draw already.
  const bool raw_was_taken = heads_ && heads_->gives_raw_gradient();
  rms_norm_backward(context.stream, {.dout = {dtrunk.normed},
                                     .x = trunk.raw,
                                     .weight = norm_,
                                     .rstd = rstd,
                                     .residual = raw_was_taken ? dtrunk.raw : Tensor{},
                                     .dx = dtrunk.raw,
                                     .dweight = dnorm_});
}

Tensor Predictor::hidden(const LayerContext& context, int slot, int depth) const {
  return depth == 0 ? at(slot).trunk.normed : heads_->hidden(context, slot, depth);
}

void Predictor::logits(const LayerContext& context, int slot, int depth, const Tensor& out) const {
  linear_forward(context.stream,
                 {.x = hidden(context, slot, depth), .weight = output(depth).weight, .out = out});
}

void Predictor::evaluate(const LayerContext& context, const MicrobatchInput& input, int slot,
                         const Tensor& losses) const {
  const int depths = heads_ ? heads_->depths() : 0;
  for (int depth = 0; depth <= depths; ++depth)
    cross_entropy_head(
        context.stream,
        {.x = hidden(context, slot, depth),
         .weight = output(depth).weight,
         .targets = {.tokens = input.tokens, .document_start = input.document_start, .ahead = depth + 1},
         .logits = logits_,
         .loss_sum = losses.flat(depth, 1)});
}

}  // namespace foretoken
