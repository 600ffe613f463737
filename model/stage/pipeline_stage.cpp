#include "model/stage/pipeline_stage.h"

#include "model/heads/head_facts.h"
#include "model/parameter_names.h"
#include "runtime/error.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "runtime/operators/vocabulary/embedding.h"

namespace foretoken {

namespace {

/// Whether the stage's predictor reads the embedding table, for embedding lookups or as a tied output matrix.
bool reads_table(const StagePlan& plan) {
  const bool reads_embedding =
      !plan.layout.depths_of(plan.stage, plan.mtp).empty() && head_facts(plan.mtp.kind).reads_embedding;
  return reads_embedding || plan.model.tie_word_embeddings;
}

}  // namespace

PipelineStage::PipelineStage(const StagePlan& plan)
    : shape_(plan.activations.shape),
      first_(plan.stage == 0),
      after_head_(plan.stage > plan.layout.head_stage()),
      frozen_(plan.frozen_trunk) {
  if (plan.activations.recompute == Recompute::full && plan.activations.split_backward)
    throw UsageError(
        "model: recompute \"full\" needs a schedule that computes weight gradients together with input "
        "gradients");
  const Parameters& parameters = plan.parameters;
  const bool heads_have_blocks =
      !plan.layout.depths_of(plan.stage, plan.mtp).empty() && head_facts(plan.mtp.kind).has_block;
  const std::vector<HeldBlock> blocks = plan.layout.blocks_of(plan.stage);
  if (!blocks.empty() || heads_have_blocks)
    scratch_ = Block::plan_scratch(plan.arena, plan.model, plan.activations);
  for (const HeldBlock& block : blocks) {
    blocks_.emplace_back(plan.model, parameters, block_prefix(block.layer), plan_of(plan, block), block.part);
    block_units_.push_back(unit_index(parameters, id_of(block)));
  }
  if (first_) {
    table_ = parameters.weight(embedding_name);
    dtable_ = parameters.gradient(embedding_name);
    embedding_unit_ = unit_index(parameters, {UnitId::Kind::embedding});
  }
  if (plan.stage >= plan.layout.head_stage()) plan_predictor(plan);
  plan_slots(plan);
}

void PipelineStage::plan_predictor(const StagePlan& plan) {
  const Parameters& parameters = plan.parameters;
  const StageTensors tensors = tensors_of(plan.model, plan.mtp, plan.layout, plan.stage);
  predictor_.emplace(HeadsPlan{.stream = plan.stream,
                               .model = plan.model,
                               .mtp = plan.mtp,
                               .parameters = parameters,
                               .arena = plan.arena,
                               .activations = plan.activations,
                               .scratch = scratch_,
                               .frozen_trunk = frozen_,
                               .depths = tensors.depths},
                     !after_head_);
  if (tensors.head) predictor_units_.push_back(unit_index(parameters, {UnitId::Kind::head}));
  const int heads = static_cast<int>(head_units(plan.model, plan.mtp).size());
  for (int depth = heads; depth > 0; --depth)
    if (plan.mtp.repeat ? !tensors.depths.empty() : tensors.depths.has(depth))
      predictor_units_.push_back(unit_index(parameters, {UnitId::Kind::mtp, depth}));
  if (tensors.final_norm) predictor_units_.push_back(unit_index(parameters, {UnitId::Kind::final_norm}));
  // The first stage reports the gradient of the trunk's embedding lookup separately, after the blocks.
  if (tensors.embedding && (!first_ || reads_table(plan)))
    predictor_units_.push_back(unit_index(parameters, {UnitId::Kind::embedding}));
}

std::vector<int> PipelineStage::units() const {
  std::vector<int> units = block_units_;
  units.insert(units.end(), predictor_units_.begin(), predictor_units_.end());
  if (first_) units.push_back(embedding_unit_);
  return units;
}

HostedHeads::Links PipelineStage::plan_links(const StagePlan& plan) const {
  HostedHeads::Links links;
  const int depths = static_cast<int>(plan.mtp.depths);
  const int before = plan.stage - plan.layout.head_stage();  // depths on earlier stages
  const auto link = [&](int depths_before) {
    return plan_link(plan.arena, plan.activations, plan.model.hidden_size,
                     measures_gradients(plan.mtp) ? depths - depths_before : 0);
  };
  if (before > 0) links.previous = link(before - 1);
  if (before >= 0 && plan.stage + 1 < plan.layout.stages()) links.next = link(before);
  return links;
}

Tensor PipelineStage::activation_in(int slot, const StepRequest& request) const {
  const Slot& at = slots_[index(slot)];
  return at.links.previous ? at.links.previous->downstream_message(request.acceptance)
                           : boundary(at.x.front());
}

Tensor PipelineStage::activation_out(int slot, const StepRequest& request) const {
  const Slot& at = slots_[index(slot)];
  return at.links.next ? at.links.next->downstream_message(request.acceptance) : boundary(at.x.back());
}

Tensor PipelineStage::gradient_in(int slot, const StepRequest& request) const {
  const Slot& at = slots_[index(slot)];
  return at.links.next ? at.links.next->upstream_message(request.trunk_gradients) : boundary(at.dx.back());
}

Tensor PipelineStage::gradient_out(int slot, const StepRequest& request) const {
  const Slot& at = slots_[index(slot)];
  return at.links.previous ? at.links.previous->upstream_message(request.trunk_gradients)
                           : boundary(at.dx.front());
}

ActivationPlan PipelineStage::plan_of(const StagePlan& plan, const HeldBlock& block) {
  ActivationPlan activations = plan.activations;
  if (activations.fp8 && !activations.fp8->covers(block.layer)) activations.fp8 = nullptr;
  return activations;
}

void PipelineStage::plan_slots(const StagePlan& plan) {
  Arena& arena = plan.arena;
  const ActivationPlan& activations = plan.activations;
  const bool split = activations.split_backward;
  const auto hidden = [&] {
    return arena.tensor(activations.dtype, {shape_.tokens(), plan.model.hidden_size});
  };
  const auto block_gradients = [&](Block::Part part) {
    return Block::plan_gradients(arena, plan.model, activations, scratch_, part);
  };

  // Buffers used between the two halves of backward. One set serves all blocks and microbatches. If the
  // weight half may run later (split), every block of every slot has a set of its own.
  const std::size_t blocks = blocks_.size();
  const bool one_set = !split && blocks > 0;
  const Block::Gradients common = one_set ? block_gradients(Block::Part::whole) : Block::Gradients{};
  const std::vector<Tensor> alternating = one_set ? std::vector{hidden(), hidden()} : std::vector<Tensor>{};
  for (int i = 0; i < plan.slots; ++i) {
    Slot slot;
    slot.links = plan_links(plan);
    if (after_head_) {
      predictor_->add_slot({}, {}, slot.links);
      slots_.push_back(std::move(slot));
      continue;
    }
    for (std::size_t j = 0; j <= blocks; ++j) {
      slot.x.push_back(hidden());
      const bool at_boundary = j == 0 || j == blocks;
      slot.dx.push_back(at_boundary || split ? hidden() : alternating[j % 2]);
    }
    for (const HeldBlock& block : plan.layout.blocks_of(plan.stage)) {
      slot.blocks.push_back(Block::plan_saved(arena, plan.model, plan_of(plan, block), scratch_, block.part));
      slot.block_gradients.push_back(split ? block_gradients(block.part) : common);
    }
    if (predictor_)
      predictor_->add_slot({.last_input = blocks > 0 ? slot.x[blocks - 1] : Tensor{}, .raw = slot.x.back()},
                           {.raw = slot.dx.back()}, slot.links);
    slots_.push_back(std::move(slot));
  }
}

void PipelineStage::forward(const StagePass& pass) const {
  const Slot& slot = slots_[index(pass.slot)];
  if (first_)
    embedding_forward(pass.stream(),
                      {.tokens = pass.input.tokens, .table = table_, .out = boundary(slot.x.front())});
  for (std::size_t j = 0; j < blocks_.size(); ++j)
    blocks_[j].forward(pass.layers, slot.x[j], slot.x[j + 1], slot.blocks[j]);
  if (predictor_) predictor_->forward(pass);
}

void PipelineStage::backward(const BackwardPass& op, const UnitDone& done) const {
  const StagePass& pass = op.pass;
  const Slot& slot = slots_[index(pass.slot)];
  if (predictor_) {
    predictor_->backward(op);
    if (op.halves.weight)
      for (const int unit : predictor_units_) done(unit);
  }
  for (std::size_t j = blocks_.size(); j-- > 0;) {
    if (op.halves.input) block_backward_input(op, j);
    if (op.halves.weight) {
      if (!frozen_)
        blocks_[j].backward_weight(pass.layers, slot.dx[j + 1], slot.blocks[j], slot.block_gradients[j]);
      done(block_units_[j]);
    }
  }
  if (first_ && op.halves.weight) {
    if (!frozen_)
      embedding_backward_weight(
          pass.stream(), {.dout = boundary(slot.dx.front()), .tokens = pass.input.tokens, .dtable = dtable_});
    done(embedding_unit_);
  }
}

void PipelineStage::block_backward_input(const BackwardPass& op, std::size_t block) const {
  const Slot& slot = slots_[index(op.pass.slot)];
  if (!frozen_)
    blocks_[block].backward_input(op.pass.layers, {.dout = slot.dx[block + 1],
                                                   .x = slot.x[block],
                                                   .dx = slot.dx[block],
                                                   .saved = slot.blocks[block],
                                                   .gradients = slot.block_gradients[block],
                                                   .scratch = scratch_});
  if (predictor_ && block + 1 == blocks_.size()) predictor_->join_last_input(op.pass, slot.dx[block]);
}

}  // namespace foretoken
