#include "model/layout.h"

#include <algorithm>
#include <numeric>
#include <set>

#include <fmt/format.h>

#include "model/heads/prediction_heads.h"

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

std::string block_prefix(std::int64_t layer) {
  return fmt::format("model.layers.{}", layer);
}

std::string mtp_prefix(const ModelConfig& model, const MtpConfig& mtp, std::int64_t depth) {
  return block_prefix(model.num_hidden_layers + (mtp.repeat ? 1 : depth) - 1);
}

const char* output_matrix_name(const ModelConfig& model) {
  return model.tie_word_embeddings ? embedding_name : head_name;
}

bool last_stage_embeds(const ModelConfig& model, const MtpConfig& mtp) {
  return (mtp.depths > 0 && head_kind(mtp.kind).embeds) || model.tie_word_embeddings;
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

std::vector<ParameterUnit> units_of(const ModelConfig& model, const MtpConfig& mtp, const ModelLayout& layout,
                                    int pp_rank) {
  const std::int64_t c = model.hidden_size, v = model.vocab_size;
  const int first_rank = layout.grid.pp_rank_of_stage(0);
  const int last_rank = layout.grid.pp_rank_of_stage(layout.stages() - 1);
  std::vector<ParameterUnit> units;

  if (pp_rank == first_rank || (pp_rank == last_rank && last_stage_embeds(model, mtp)))
    units.push_back({.name = "embedding",
                     .holders = first_rank != last_rank && last_stage_embeds(model, mtp)
                                    ? std::vector<int>{first_rank, last_rank}
                                    : std::vector<int>{},
                     .canonical = pp_rank == first_rank,
                     .specs = {{.name = embedding_name, .shape = {v, c}, .std = model.initializer_range}}});
  for (int stage : layout.stages_of(pp_rank)) {
    for (const HeldBlock& block : layout.blocks_of(stage))
      units.push_back({.name = unit_name(block),
                       .specs = Block::parameters(model, block_prefix(block.layer), block.part)});
    if (!layout.is_last(stage)) continue;
    units.push_back({.name = "final norm",
                     .specs = {{.name = final_norm_name, .shape = {c}, .decay = false, .init = Init::ones}}});
    for (ParameterUnit& unit : head_units(model, mtp)) units.push_back(std::move(unit));
    if (!model.tie_word_embeddings)
      units.push_back({.name = "head",
                       .specs = {{.name = head_name,
                                  .shape = {v, c},
                                  .std = model.initializer_range,
                                  .gradient_overwritten = true}}});
  }
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
