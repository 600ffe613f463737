#include "model/layout.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

#include "model/block.h"
#include "model/heads/prediction_heads.h"

namespace foretoken {

int ModelLayout::first_block(int stage) const {
  return std::accumulate(blocks_per_stage.begin(), blocks_per_stage.begin() + stage, 0);
}

std::vector<int> ModelLayout::stages_of(int pp_rank) const {
  std::vector<int> held;
  for (int stage = 0; stage < stages(); ++stage)
    if (grid.pp_rank_of_stage(stage) == pp_rank) held.push_back(stage);
  return held;
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
                     .shared = first_rank != last_rank && last_stage_embeds(model, mtp),
                     .canonical = pp_rank == first_rank,
                     .specs = {{.name = embedding_name, .shape = {v, c}, .std = model.initializer_range}}});
  for (int stage : layout.stages_of(pp_rank)) {
    const int first = layout.first_block(stage);
    for (int layer = first; layer < first + layout.blocks_per_stage[static_cast<std::size_t>(stage)]; ++layer)
      units.push_back(
          {.name = fmt::format("layer {}", layer), .specs = Block::parameters(model, block_prefix(layer))});
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

}  // namespace foretoken
