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

Predictor::Predictor(const ModelConfig& config, const MtpConfig& mtp, const Parameters& parameters,
                     Arena& arena, const ActivationPlan& plan)
    : config_(config), mtp_(mtp), plan_(plan) {
  norm_.push_back(parameters.weight(final_norm_name));
  dnorm_.push_back(parameters.gradient(final_norm_name));
  for (int depth = 1; depth <= mtp.depths; ++depth) {
    const std::string prefix = mtp_prefix(config, depth);
    modules_.emplace_back(config, mtp, parameters, prefix, depth, plan.recompute);
    norm_.push_back(parameters.weight(prefix + ".shared_head.norm.weight"));
    dnorm_.push_back(parameters.gradient(prefix + ".shared_head.norm.weight"));
  }
  if (mtp.depths > 0) {
    table_ = parameters.weight(embedding_name);
    dtable_ = parameters.gradient(embedding_name);
  }
  head_ = parameters.weight(output_matrix_name(config));
  dhead_ = parameters.gradient(output_matrix_name(config));
  logits_ = arena.tensor(plan.dtype, {logit_rows(config, plan, arena.device()), config.vocab_size});
}

Predictor::Saved Predictor::plan_saved(Arena& arena, const Tensor& trunk_output,
                                       const Block::Scratch& scratch) const {
  const Shape flat{plan_.shape.tokens(), config_.hidden_size},
      rows{plan_.shape.rows, plan_.shape.length, config_.hidden_size};
  Saved saved;
  for (int depth = 0; depth < depths(); ++depth) {
    saved.raw.push_back(depth == 0 ? trunk_output.view(flat) : arena.tensor(plan_.dtype, flat));
    saved.rstd.push_back(arena.tensor(statistics_dtype(plan_.dtype), {plan_.shape.tokens()}));
    saved.normed.push_back(arena.tensor(plan_.dtype, rows));
    if (depth > 0) saved.modules.push_back(MtpModule::plan_saved(arena, config_, plan_, scratch));
  }
  return saved;
}

Predictor::Gradients Predictor::plan_gradients(Arena& arena, const Tensor& dtrunk_output,
                                               const Block::Scratch& scratch) const {
  const Shape flat{plan_.shape.tokens(), config_.hidden_size},
      rows{plan_.shape.rows, plan_.shape.length, config_.hidden_size};
  Gradients gradients;
  for (int depth = 0; depth < depths(); ++depth) {
    gradients.draw.push_back(depth == 0 ? dtrunk_output.view(flat) : arena.tensor(plan_.dtype, flat));
    gradients.dnormed.push_back(arena.tensor(plan_.dtype, rows));
    if (depth > 0) gradients.modules.push_back(MtpModule::plan_gradients(arena, config_, plan_, scratch));
  }
  return gradients;
}

bool Predictor::takes_normed(int depth) const {
  return (depth == 1 ? mtp_.trunk_hidden : mtp_.recycled_hidden) == MtpConfig::Hidden::normed;
}

const Tensor& Predictor::hidden_for(int depth, const Saved& saved) const {
  const auto previous = static_cast<std::size_t>(depth - 1);
  return takes_normed(depth) ? saved.normed[previous] : saved.raw[previous];
}

void Predictor::forward(const LayerContext& context, const MicrobatchInput& input, const Saved& saved) const {
  for (int depth = 0; depth < depths(); ++depth) {
    const auto k = static_cast<std::size_t>(depth);
    if (depth > 0)
      modules_[k - 1].forward(context, input.tokens, table_, hidden_for(depth, saved), saved.raw[k],
                              saved.modules[k - 1]);
    rms_norm_forward(context.stream, {.x = saved.raw[k],
                                      .weight = norm_[k],
                                      .eps = config_.rms_norm_eps,
                                      .out = {saved.normed[k]},
                                      .rstd = saved.rstd[k]});
  }
}

void Predictor::head_loss(const LayerContext& context, const MicrobatchInput& input, const Tensor& normed,
                          int depth, double gradient_scale, const Tensor& losses,
                          const Tensor& dnormed) const {
  // A tied head's gradient is the table's, to which the embedding adds.
  const bool accumulate = config_.tie_word_embeddings || depth > 0 || context.begun.input;
  cross_entropy_head(
      context.stream,
      {.x = normed,
       .weight = head_,
       .targets = {.tokens = input.tokens, .document_start = input.document_start, .ahead = depth + 1},
       .gradient_scale = gradient_scale,
       .logits = logits_,
       .loss_sum = losses.flat(depth, 1),
       .dx = dnormed,
       .dweight = dnormed.defined() ? dhead_ : Tensor{},
       .accumulate = accumulate});
}

void Predictor::backward(const LayerContext& context, const MicrobatchInput& input, const Saved& saved,
                         const Gradients& gradients, const Block::Scratch& scratch, Halves halves,
                         std::span<const double> gradient_scales, const Tensor& losses) const {
  for (int depth = 0; halves.input && depth < depths(); ++depth) {
    const auto k = static_cast<std::size_t>(depth);
    head_loss(context, input, saved.normed[k], depth, gradient_scales[k], losses, gradients.dnormed[k]);
  }
  for (int depth = depths() - 1; depth >= 0; --depth) {
    const auto k = static_cast<std::size_t>(depth);
    if (halves.input) norm_backward(context, saved, gradients, depth);
    if (depth == 0) break;
    const bool normed = takes_normed(depth);
    if (halves.input)
      modules_[k - 1].backward_input(context, gradients.draw[k], hidden_for(depth, saved),
                                     normed ? gradients.dnormed[k - 1] : gradients.draw[k - 1], normed,
                                     saved.modules[k - 1], gradients.modules[k - 1], scratch);
    if (halves.weight)
      modules_[k - 1].backward_weight(context, gradients.draw[k], input.tokens, dtable_, saved.modules[k - 1],
                                      gradients.modules[k - 1]);
  }
}

/// nᵏ = RMSNorm(hᵏ); where module k + 1 took hᵏ raw, its gradient is in draw already.
void Predictor::norm_backward(const LayerContext& context, const Saved& saved, const Gradients& gradients,
                              int depth) const {
  const auto k = static_cast<std::size_t>(depth);
  const bool raw_was_taken = depth + 1 < depths() && !takes_normed(depth + 1);
  rms_norm_backward(context.stream, {.dout = {gradients.dnormed[k]},
                                     .x = saved.raw[k],
                                     .weight = norm_[k],
                                     .rstd = saved.rstd[k],
                                     .residual = raw_was_taken ? gradients.draw[k] : Tensor{},
                                     .dx = gradients.draw[k],
                                     .dweight = dnorm_[k]});
}

void Predictor::logits(const LayerContext& context, const Saved& saved, int depth, const Tensor& out) const {
  linear_forward(context.stream,
                 {.x = saved.normed[static_cast<std::size_t>(depth)], .weight = head_, .out = out});
}

void Predictor::evaluate(const LayerContext& context, const MicrobatchInput& input, const Saved& saved,
                         const Tensor& losses) const {
  for (int depth = 0; depth < depths(); ++depth)
    head_loss(context, input, saved.normed[static_cast<std::size_t>(depth)], depth, 0, losses, {});
}

}  // namespace foretoken
