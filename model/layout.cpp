#include "model/layout.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "model/heads/head_facts.h"
#include "model/heads/head_kinds.h"
#include "model/parameter_names.h"
#include "runtime/error.h"

namespace foretoken {

std::vector<HeldBlock> ModelLayout::blocks_of(int stage) const {
  const int begin = std::accumulate(halves_per_stage.begin(), halves_per_stage.begin() + stage, 0);
  const int end = begin + halves_per_stage[static_cast<std::size_t>(stage)];
  std::vector<HeldBlock> blocks;
  for (int half = begin; half < end; half += half % 2 == 0 ? 2 : 1) {
    const int layer = half / 2;
    if (half % 2 == 1)
      blocks.push_back({layer, Block::Part::mlp});
    else
      blocks.push_back({layer, half + 1 < end ? Block::Part::whole : Block::Part::attention});
  }
  return blocks;
}

std::vector<int> ModelLayout::stages_of(int pp_rank) const {
  std::vector<int> held;
  for (int stage = 0; stage < stages(); ++stage)
    if (grid.pp_rank_of_stage(stage) == pp_rank) held.push_back(stage);
  return held;
}

ModelLayout one_stage(const ModelConfig& model) {
  return {.grid = {}, .halves_per_stage = {static_cast<int>(2 * model.num_hidden_layers)}};
}

UnitId id_of(const HeldBlock& block) {
  switch (block.part) {
    case Block::Part::whole:
      return {UnitId::Kind::layer, block.layer};
    case Block::Part::attention:
      return {UnitId::Kind::attention, block.layer};
    case Block::Part::mlp:
      return {UnitId::Kind::mlp, block.layer};
  }
  throw DefectError("layout: layer {}: unknown part {}", block.layer, static_cast<int>(block.part));
}

DepthRange ModelLayout::depths_of(int stage, const MtpConfig& mtp) const {
  const int head = head_stage();
  if (stage < head) return {};
  if (depth_stages == 0) return {1, static_cast<int>(mtp.depths)};
  return stage == head ? DepthRange{} : DepthRange{stage - head, stage - head};
}

StageTensors tensors_of(const ModelConfig& model, const MtpConfig& mtp, const ModelLayout& layout,
                        int stage) {
  const HeadFacts& kind = head_facts(mtp.kind);
  const bool main = stage == layout.head_stage();
  StageTensors tensors{.depths = layout.depths_of(stage, mtp)};
  const bool depths = !tensors.depths.empty();
  const bool output = main || (depths && !owns_matrix(mtp));
  tensors.embedding = stage == 0 || (depths && kind.reads_embedding) || (output && model.tie_word_embeddings);
  tensors.final_norm = main || (depths && kind.ends_in_final_norm);
  tensors.head = output && !model.tie_word_embeddings;
  return tensors;
}

std::vector<ParameterUnit> head_units(const ModelConfig& model, const MtpConfig& mtp) {
  std::vector<ParameterUnit> units;
  for (std::int64_t depth = 1; depth <= (mtp.repeat ? std::min<std::int64_t>(1, mtp.depths) : mtp.depths);
       ++depth)
    units.push_back({.name = to_string(UnitId{UnitId::Kind::mtp, static_cast<int>(depth)}),
                     .head = true,
                     .specs = head_kind(mtp.kind).parameters(model, mtp, mtp_prefix(model, mtp, depth))});
  return units;
}

namespace {

/// The stages and ranks that read one parameter unit.
struct Readers {
  int first = -1;           // the first stage that reads the unit
  std::vector<int> ranks;   // all pipeline ranks with such a stage, ascending
  std::vector<int> stages;  // such stages on this pipeline rank

  bool here() const { return !stages.empty(); }
  ParameterUnit unit(const UnitId& id, int pp_rank, const ModelLayout& layout) const {
    return {.name = to_string(id),
            .holders = ranks.size() > 1 ? ranks : std::vector<int>{},
            .canonical = layout.grid.pp_rank_of_stage(first) == pp_rank};
  }
};

template <class Reads>
Readers readers_of(const ModelLayout& layout, int pp_rank, const Reads& reads) {
  Readers readers;
  std::set<int> ranks;
  for (int stage = 0; stage < layout.stages(); ++stage) {
    if (!reads(stage)) continue;
    const int rank = layout.grid.pp_rank_of_stage(stage);
    if (readers.first < 0) readers.first = stage;
    if (rank == pp_rank) readers.stages.push_back(stage);
    ranks.insert(rank);
  }
  readers.ranks.assign(ranks.begin(), ranks.end());
  return readers;
}

/// Collects the units that stages of one pipeline rank read.
class RankUnits {
 public:
  RankUnits(const ModelConfig& model, const MtpConfig& mtp, const ModelLayout& layout, int pp_rank)
      : model_(model), mtp_(mtp), layout_(layout), pp_rank_(pp_rank) {
    for (int stage = 0; stage < layout.stages(); ++stage)
      tensors_.push_back(tensors_of(model, mtp, layout, stage));
  }

  void add_embedding() {
    add(readers(&StageTensors::embedding), {UnitId::Kind::embedding},
        {{.name = embedding_name,
          .shape = {model_.vocab_size, model_.hidden_size},
          .std = model_.initializer_range}});
  }

  void add_blocks() {
    for (int stage : layout_.stages_of(pp_rank_))
      for (const HeldBlock& block : layout_.blocks_of(stage))
        units_.push_back({.name = to_string(id_of(block)),
                          .specs = Block::parameters(model_, block_prefix(block.layer), block.part)});
  }

  void add_final_norm() {
    add(readers(&StageTensors::final_norm), {UnitId::Kind::final_norm},
        {{.name = final_norm_name, .shape = {model_.hidden_size}, .decay = false, .init = Init::ones}});
  }

  void add_prediction_heads() {
    int depth = 0;
    for (ParameterUnit& unit : head_units(model_, mtp_)) {
      ++depth;
      const Readers reading = readers_of(layout_, pp_rank_, [&](int stage) {
        const DepthRange& held = tensors_[static_cast<std::size_t>(stage)].depths;
        return mtp_.repeat ? !held.empty() : held.has(depth);
      });
      if (!reading.here()) continue;
      if (reading.stages.size() > 1)
        for (ParameterSpec& spec : unit.specs) spec.gradient_overwritten = false;
      add(reading, id_of(unit), std::move(unit.specs));
      units_.back().head = true;
    }
  }

  void add_output_matrix() {
    const Readers output = readers(&StageTensors::head);
    add(output, {UnitId::Kind::head},
        {{.name = head_name,
          .shape = {model_.vocab_size, model_.hidden_size},
          .std = model_.initializer_range,
          .gradient_overwritten = output.stages == std::vector<int>{layout_.head_stage()}}});
  }

  std::vector<ParameterUnit> take() { return std::move(units_); }

 private:
  Readers readers(bool StageTensors::*read) const {
    return readers_of(layout_, pp_rank_,
                      [&](int stage) { return tensors_[static_cast<std::size_t>(stage)].*read; });
  }

  void add(const Readers& readers, const UnitId& id, std::vector<ParameterSpec> specs) {
    if (!readers.here()) return;
    units_.push_back(readers.unit(id, pp_rank_, layout_));
    units_.back().specs = std::move(specs);
  }

  const ModelConfig& model_;
  const MtpConfig& mtp_;
  const ModelLayout& layout_;
  int pp_rank_;
  std::vector<StageTensors> tensors_;  // by stage
  std::vector<ParameterUnit> units_;
};

}  // namespace

std::vector<ParameterUnit> units_of(const ModelConfig& model, const MtpConfig& mtp, const ModelLayout& layout,
                                    int pp_rank) {
  RankUnits units(model, mtp, layout, pp_rank);
  units.add_embedding();
  units.add_blocks();
  units.add_final_norm();
  units.add_prediction_heads();
  units.add_output_matrix();
  return units.take();
}

namespace {

/// Blocks are never shared.
std::vector<ParameterUnit> units_beside_blocks(const ModelConfig& model, const MtpConfig& mtp,
                                               const ModelLayout& layout, int pp_rank) {
  RankUnits units(model, mtp, layout, pp_rank);
  units.add_embedding();
  units.add_final_norm();
  units.add_prediction_heads();
  units.add_output_matrix();
  return units.take();
}

}  // namespace

std::vector<std::vector<int>> sharing_ranks(const ModelConfig& model, const MtpConfig& mtp,
                                            const ModelLayout& layout) {
  std::set<std::vector<int>> sets;
  for (int pp_rank = 0; pp_rank < layout.grid.pp; ++pp_rank)
    for (const ParameterUnit& unit : units_beside_blocks(model, mtp, layout, pp_rank))
      if (unit.shared()) sets.insert(unit.holders);
  return {sets.begin(), sets.end()};
}

}  // namespace foretoken
