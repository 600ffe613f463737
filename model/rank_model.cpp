#include "model/rank_model.h"

#include <algorithm>

#include "runtime/operators/rope.h"

namespace foretoken {

RankModel::RankModel(Stream& stream, const RankModelOptions& options)
    : stream_(stream), options_(options), arena_(stream.device()) {
  const ModelConfig& model = options_.model;
  const ModelLayout& layout = options_.layout;
  // Units split evenly over the data-parallel ranks, and start at cache lines.
  const std::int64_t alignment = std::int64_t{16} * layout.grid.dp;
  parameters_ = std::make_unique<Parameters>(
      arena_, options_.dtype, units_of(model, options_.mtp, layout, options_.pp_rank), alignment);

  const Shape table{options_.shape.length, model.head_dim / 2};
  rope_cos_ = arena_.tensor(options_.dtype, table);
  rope_sin_ = arena_.tensor(options_.dtype, table);
  rope_table(rope_cos_, rope_sin_, model.rope_theta);

  stages_ = layout.stages_of(options_.pp_rank);
  for (int stage : stages_) {
    compute_.emplace_back(StagePlan{.model = model,
                                    .mtp = options_.mtp,
                                    .layout = layout,
                                    .parameters = *parameters_,
                                    .arena = arena_,
                                    .shape = options_.shape,
                                    .dtype = options_.dtype,
                                    .stage = stage,
                                    .slots = options_.slots.at(static_cast<std::size_t>(stage)),
                                    .split_backward = options_.split_backward});
    if (layout.is_last(stage)) last_stage_ = stage;
  }
  losses_.resize(static_cast<std::size_t>(options_.mtp.depths) + 1);
  // The embedding has two contributors where first and last stage are both here.
  const bool both_ends = has_last_stage() && stages_.front() == 0;
  for (const ParameterUnit& unit : parameters_->units())
    contributions_.push_back(
        unit.name == "embedding" && both_ends && last_stage_embeds(model, options_.mtp) ? 2 : 1);
  arena_.seal();
}

void RankModel::begin_step(Step step) {
  step_ = std::move(step);
  std::fill(losses_.begin(), losses_.end(), 0.0);
  remaining_ = contributions_;
  for (int& count : remaining_) count *= static_cast<int>(step_.microbatches.size());
}

PipelineStage& RankModel::at(int stage) {
  const auto found = std::find(stages_.begin(), stages_.end(), stage);
  if (found == stages_.end())
    throw DefectError("model: stage {} is not on pipeline rank {}", stage, options_.pp_rank);
  return compute_[static_cast<std::size_t>(found - stages_.begin())];
}

LayerContext RankModel::context(const MicrobatchInput& input) const {
  return {.stream = stream_,
          .rope_cos = rope_cos_,
          .rope_sin = rope_sin_,
          .document_start = options_.attention_across_documents ? Tensor{} : input.document_start};
}

void RankModel::forward(int stage, int microbatch, int slot) {
  const MicrobatchInput& input = step_.microbatches[static_cast<std::size_t>(microbatch)];
  PipelineStage& compute = at(stage);
  compute.forward(context(input), input, slot);
  if (step_.mode == Mode::evaluate && compute.is_last())
    compute.evaluate(context(input), input, slot, losses_);
}

void RankModel::run_backward(int stage, int microbatch, int slot, PipelineStage::Halves halves) {
  const MicrobatchInput& input = step_.microbatches[static_cast<std::size_t>(microbatch)];
  at(stage).backward(context(input), input, slot, halves, step_.gradient_scales, losses_,
                     [this](const std::string& unit) { unit_done(unit); });
}

void RankModel::backward(int stage, int microbatch, int slot) {
  run_backward(stage, microbatch, slot, {});
}

void RankModel::backward_input(int stage, int microbatch, int slot) {
  run_backward(stage, microbatch, slot, {.weight = false});
}

void RankModel::backward_weight(int stage, int microbatch, int slot) {
  run_backward(stage, microbatch, slot, {.input = false});
}

void RankModel::logits(int slot, int depth, const Tensor& out) {
  at(last_stage_).logits(context({}), slot, depth, out);
}

void RankModel::unit_done(const std::string& name) {
  const auto& units = parameters_->units();
  for (std::size_t i = 0; i < units.size(); ++i)
    if (units[i].name == name && --remaining_[i] == 0) step_.unit_final(static_cast<int>(i));
}

}  // namespace foretoken
