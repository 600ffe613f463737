#include "model/stage/rank_model.h"

#include <algorithm>
#include <cstring>

#include "runtime/error.h"
#include "runtime/operators/rowwise/elementwise.h"

namespace foretoken {

Parameters plan_parameters(Arena& arena, const RankModelOptions& options) {
  // Units split evenly over the data-parallel ranks and start at multiples of at least 256 bytes.
  const std::int64_t alignment = std::int64_t{128} * options.layout.grid.dp;
  std::vector<ParameterUnit> units = units_of(options.model, options.mtp, options.layout, options.pp_rank);
  for (ParameterUnit& unit : units) unit.frozen = options.frozen_trunk && !unit.head;
  // Trained units come first, so that the gradient buffer covers a prefix.
  std::stable_partition(units.begin(), units.end(), [](const ParameterUnit& unit) { return !unit.frozen; });
  return {arena, {.values = options.values, .weights = options.activations}, std::move(units), alignment};
}

RankModel::RankModel(Stream& stream, Arena arena, const RankModelOptions& options)
    : stream_(stream),
      options_(options),
      arena_(std::move(arena)),
      input_arena_(arena_.counts_only() ? Arena::counting(DeviceKind::cpu) : Arena(DeviceKind::cpu, true)) {
  options_.mtp.detach_heads |= options_.frozen_trunk;
  const ModelConfig& model = options_.model;
  const ModelLayout& layout = options_.layout;
  parameters_ = std::make_unique<Parameters>(plan_parameters(arena_, options_));
  rope_ = make_rope_tables(stream_, arena_, model, options_.shape.length, options_.activations);

  if (options_.fp8) fp8_.emplace(arena_, *options_.fp8, model.num_hidden_layers);
  stages_ = layout.stages_of(options_.pp_rank);
  for (int stage : stages_) {
    compute_.emplace_back(StagePlan{.stream = stream,
                                    .model = model,
                                    .mtp = options_.mtp,
                                    .layout = layout,
                                    .parameters = *parameters_,
                                    .arena = arena_,
                                    .activations = {.shape = options_.shape,
                                                    .dtype = options_.activations,
                                                    .recompute = options_.recompute,
                                                    .split_backward = options_.split_backward,
                                                    .fp8 = fp8_ ? &*fp8_ : nullptr},
                                    .stage = stage,
                                    .slots = options_.slots.at(static_cast<std::size_t>(stage)),
                                    .frozen_trunk = options_.frozen_trunk});
  }
  if (fp8_) fp8_->plan_scratch();
  sums_ = {arena_.tensor(DType::f64, {StepSums::elements(options_.mtp.depths)}, MemoryKind::workspace),
           options_.mtp.depths};
  contributions_.resize(parameters_->units().size());
  for (const PipelineStage& stage : compute_)
    for (const int unit : stage.units()) ++contributions_[static_cast<std::size_t>(unit)];
  if (arena_.device() != DeviceKind::cpu) plan_inputs();
  arena_.seal();
}

void RankModel::plan_inputs() {
  const Shape shape{options_.shape.rows, options_.shape.length + 1 + options_.mtp.depths};
  for (int m = 0; m < options_.microbatches; ++m) {
    const auto input = [&](Arena& arena) {
      return MicrobatchInput{arena.tensor(DType::i32, shape, MemoryKind::inputs),
                             arena.tensor(DType::i32, shape, MemoryKind::inputs)};
    };
    inputs_.push_back(input(arena_));
    host_inputs_.push_back(input(input_arena_));
  }
}

/// Overwrites the page-locked copies of the previous step. That is safe because the host has read the
/// previous step's losses, so the copies to the device have completed.
void RankModel::upload(std::span<const MicrobatchInput> microbatches) {
  if (microbatches.size() > inputs_.size())
    throw DefectError("model: {} microbatches, planned for {}", microbatches.size(), inputs_.size());
  for (std::size_t m = 0; m < microbatches.size(); ++m) {
    for (Tensor MicrobatchInput::*tensor : {&MicrobatchInput::tokens, &MicrobatchInput::document_start}) {
      const Tensor &from = microbatches[m].*tensor, &staged = host_inputs_[m].*tensor;
      std::memcpy(staged.data, from.data, from.bytes());
      copy(stream_, staged, inputs_[m].*tensor);
    }
    inputs_[m].depths = microbatches[m].depths;
  }
}

StepRequest RankModel::diagnosis() const {
  return {.gradients = true, .acceptance = true, .trunk_gradients = measures_gradients(options_.mtp)};
}

void RankModel::begin_step(Step step) {
  const StepRequest& request = step.request;
  if (request.trunk_gradients && !(request.gradients && measures_gradients(options_.mtp)))
    throw DefectError("model: a step requests gradients at the trunk, but {}",
                      request.gradients ? "the model does not measure them" : "not gradients");
  step_ = std::move(step);
  if (stream_.device() != DeviceKind::cpu) {
    upload(step_.microbatches);
    step_.microbatches = std::span(inputs_).first(step_.microbatches.size());
  }
  set_zero(stream_, sums_.all);
  sampled_ = std::any_of(step_.microbatches.begin(), step_.microbatches.end(),
                         [](const MicrobatchInput& input) { return input.depths != DepthSet::all(); });
  if (step_.request.gradients) zero_gradients();
  if (step_.request.gradients && fp8_) fp8_->quantize_weights(stream_);
  halves_run_.assign(stages_.size(), {.input = false, .weight = false});
  remaining_ = contributions_;
  for (int& count : remaining_) count *= static_cast<int>(step_.microbatches.size());
}

/// If depths are sampled, a step may train some head in no microbatch. No contribution overwrites that head's
/// gradient then, so it is zeroed.
void RankModel::zero_gradients() {
  parameters_->zero_summed_gradients(stream_);
  for (const ParameterUnit& unit : parameters_->units())
    if (sampled_ && unit.head)
      set_zero(stream_, parameters_->gradients().flat(unit.begin, unit.end - unit.begin));
}

bool RankModel::computes_losses() const {
  return stages_.back() >= options_.layout.head_stage();
}

std::size_t RankModel::index_of(int stage) const {
  const auto found = std::find(stages_.begin(), stages_.end(), stage);
  if (found == stages_.end())
    throw DefectError("model: stage {} is not on pipeline rank {}", stage, options_.pp_rank);
  return static_cast<std::size_t>(found - stages_.begin());
}

LayerContext RankModel::context(const MicrobatchInput& input) const {
  return {.stream = stream_,
          .rope_cos = rope_.cos,
          .rope_sin = rope_.sin,
          .document_start = options_.attention_across_documents ? Tensor{} : input.document_start,
          .forward_only = !step_.request.gradients};
}

StagePass RankModel::pass(const InFlight& at) const {
  const MicrobatchInput& of = input(at.microbatch);
  return {.layers = context(of), .input = of, .slot = at.slot, .request = step_.request, .sums = sums_};
}

void RankModel::forward(const InFlight& at) {
  const PipelineStage& compute = stage(at);
  const StagePass forward = pass(at);
  compute.forward(forward);
  if (!compute.computes_losses()) return;
  if (!step_.request.gradients)
    compute.predictor().evaluate(forward);
  else if (counts_in_forward())
    compute.predictor().count_drafts(forward);
}

/// If depths have stages of their own, drafts are counted in forward, because the main model's likeliest
/// tokens, with which drafts are compared, are sent downstream.
bool RankModel::counts_in_forward() const {
  return step_.request.acceptance && options_.layout.depth_stages > 0;
}

void RankModel::run_backward(const InFlight& at, Halves halves) {
  if (!step_.request.gradients) throw DefectError("model: backward in a step that requests no gradients");
  Halves& halves_run = halves_run_[index_of(at.stage)];
  StagePass backward = pass(at);
  backward.layers.halves_run = halves_run;
  backward.request.acceptance &= !counts_in_forward();
  stage(at).backward({.pass = backward, .halves = halves, .gradient_scales = step_.gradient_scales},
                     [this](int unit) {
                       if (--remaining_[static_cast<std::size_t>(unit)] == 0) step_.unit_final(unit);
                     });
  halves_run.input |= halves.input;
  halves_run.weight |= halves.weight;
}

void RankModel::backward(const InFlight& at) {
  run_backward(at, {});
}

void RankModel::backward_input(const InFlight& at) {
  run_backward(at, {.weight = false});
}

void RankModel::backward_weight(const InFlight& at) {
  run_backward(at, {.input = false});
}

void RankModel::logits(const Logits& op) {
  compute_[index_of(options_.layout.stage_of_depth(op.depth))].predictor().logits(
      context(input(op.microbatch)), op.slot, op.depth, op.out);
}

}  // namespace foretoken
