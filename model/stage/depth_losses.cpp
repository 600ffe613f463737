#include "model/stage/depth_losses.h"

#include <algorithm>

#include "runtime/operators/vocabulary/acceptance.h"
#include "runtime/operators/vocabulary/cross_entropy_head.h"

namespace foretoken {

namespace {

/// Number of rows in a chunk of logits, at most all rows of the microbatch. On a CPU a chunk has a few
/// megabytes, to fit the caches. On a GPU it has half a GiB, so that the head's weight gradient is read and
/// written only a few times.
std::int64_t logit_rows(const ModelConfig& config, const ActivationPlan& plan, DeviceKind device) {
  const std::int64_t elements = std::int64_t{1} << (device == DeviceKind::cpu ? 20 : 28);
  return std::clamp<std::int64_t>(elements / config.vocab_size,
                                  std::min<std::int64_t>(64, plan.shape.tokens()), plan.shape.tokens());
}

}  // namespace

DepthLosses::DepthLosses(const HeadsPlan& plan) {
  Arena& arena = plan.arena;
  const ActivationPlan& activations = plan.activations;
  logits_ = arena.tensor(activations.dtype,
                         {logit_rows(plan.model, activations, arena.device()), plan.model.vocab_size},
                         MemoryKind::logits);
  if (plan.mtp.depths == 0) return;
  for (Tensor* tokens : {&tokens_.main_argmax, &draft_argmax_, &tokens_.agrees})
    *tokens = arena.tensor(DType::i32, {activations.shape.rows, activations.shape.length});
}

void DepthLosses::run(const StagePass& pass, const AcceptanceTokens& tokens, const Work& work) const {
  const DepthOutput& output = work.output;
  const int depth = output.depth;
  const bool counts = pass.request.acceptance && draft_argmax_.defined();
  const Tensor& argmax = depth == 0 ? tokens.main_argmax : draft_argmax_;
  cross_entropy_head(pass.stream(), {.x = output.hidden,
                                     .weight = output.matrix.weight,
                                     .targets = {.tokens = pass.input.tokens,
                                                 .document_start = pass.input.document_start,
                                                 .ahead = depth + 1},
                                     .gradient_scale = work.gradient_scale,
                                     .logits = logits_,
                                     .loss_sum = work.loss ? pass.sums.losses.flat(depth, 1) : Tensor{},
                                     .argmax = counts ? argmax : Tensor{},
                                     .dx = output.dhidden.value_or(Tensor{}),
                                     .dweight = output.matrix.gradient.value_or(Tensor{}),
                                     .accumulate = work.accumulate});
  if (!counts || depth == 0) return;
  count_acceptances(pass.stream(), {.main = tokens.main_argmax,
                                    .draft = draft_argmax_,
                                    .document_start = pass.input.document_start,
                                    .depth = depth,
                                    .agrees = tokens.agrees,
                                    .drafts = pass.sums.drafts.flat(depth - 1, 1),
                                    .accepted = pass.sums.accepted.flat(depth - 1, 1)});
}

}  // namespace foretoken
