#include "model/layout.h"

#include <algorithm>
#include <numeric>
#include <set>

#include <fmt/format.h>

#include "model/heads/head_kinds.h"
#include "model/parameter_names.h"

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

std::string unit_name(const HeldBlock& block) {
  const char* half = block.part == Block::Part::whole       ? ""
                     : block.part == Block::Part::attention ? " attention"
                                                            : " MLP";
  return fmt::format("layer {}{}", block.layer, half);
}

DepthRange ModelLayout::depths_of(int stage, const MtpConfig& mtp) const {
  const int head = head_stage();
  if (stage < head) return {};
  if (depth_stages == 0) return {1, static_cast<int>(mtp.depths)};
  return stage == head ? DepthRange{} : DepthRange{stage - head, stage - head};
}

StageTensors tensors_of(const ModelConfig& model, const MtpConfig& mtp, const ModelLayout& layout,
                        int stage) {
  const HeadKind& kind = head_kind(mtp.kind);
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
    units.push_back({.name = fmt::format("mtp {}", depth),
                     .head = true,
                     .specs = head_kind(mtp.kind).parameters(model, mtp, mtp_prefix(model, mtp, depth))});
  return units;
}

namespace {

/// The readers of one parameter unit: stages of this pipeline rank, and ranks among all stages.
struct Readers {
  int first = -1;           // first stage that reads it
  std::vector<int> ranks;   // ascending
  std::vector<int> stages;  // stages of this pipeline rank

  bool here() const { return !stages.empty(); }
  ParameterUnit unit(const char* name, int pp_rank, const ModelLayout& layout) const {
    return {.name = name,
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

}  // namespace

std::vector<ParameterUnit> units_of(const ModelConfig& model, const MtpConfig& mtp, const ModelLayout& layout,
                                    int pp_rank) {
  const std::int64_t c = model.hidden_size, v = model.vocab_size;
  std::vector<StageTensors> tensors;
  for (int stage = 0; stage < layout.stages(); ++stage)
    tensors.push_back(tensors_of(model, mtp, layout, stage));
  std::vector<ParameterUnit> units;
  /// Adds the unit if a stage of this rank reads it.
  const auto add = [&](const Readers& readers, const char* name, std::vector<ParameterSpec> specs) {
    if (!readers.here()) return;
    units.push_back(readers.unit(name, pp_rank, layout));
    units.back().specs = std::move(specs);
  };
  const auto readers = [&](bool StageTensors::*read) {
    return readers_of(layout, pp_rank,
                      [&](int stage) { return tensors[static_cast<std::size_t>(stage)].*read; });
  };

  add(readers(&StageTensors::embedding), "embedding",
      {{.name = embedding_name, .shape = {v, c}, .std = model.initializer_range}});
  for (int stage : layout.stages_of(pp_rank))
    for (const HeldBlock& block : layout.blocks_of(stage))
      units.push_back({.name = unit_name(block),
                       .specs = Block::parameters(model, block_prefix(block.layer), block.part)});
  add(readers(&StageTensors::final_norm), "final norm",
      {{.name = final_norm_name, .shape = {c}, .decay = false, .init = Init::ones}});
  int depth = 0;
  for (ParameterUnit& unit : head_units(model, mtp)) {
    ++depth;
    const Readers reading = readers_of(layout, pp_rank, [&](int stage) {
      const DepthRange& held = tensors[static_cast<std::size_t>(stage)].depths;
      return mtp.repeat ? !held.empty() : held.has(depth);
    });
    if (!reading.here()) continue;
    if (reading.stages.size() > 1)
      for (ParameterSpec& spec : unit.specs) spec.gradient_overwritten = false;
    add(reading, unit.name.c_str(), std::move(unit.specs));
    units.back().head = true;
  }
  const Readers output = readers(&StageTensors::head);
  add(output, "head",
      {{.name = head_name,
        .shape = {v, c},
        .std = model.initializer_range,
        .gradient_overwritten = output.stages == std::vector<int>{layout.head_stage()}}});
  return units;
}

std::vector<std::vector<int>> sharing_ranks(const ModelConfig& model, const MtpConfig& mtp,
                                            const ModelLayout& layout) {
  std::set<std::vector<int>> sets;
  for (int pp_rank = 0; pp_rank < layout.grid.pp; ++pp_rank)
    for (const ParameterUnit& unit : units_of(model, mtp, layout, pp_rank))
      if (unit.shared()) sets.insert(unit.holders);
  return {sets.begin(), sets.end()};
}

}  // namespace foretoken
