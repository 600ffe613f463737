#pragma once
// Which stage and which rank holds what: halves of blocks, embedding, MTP modules, head; and the names of it
// all.

#include <string>
#include <vector>

#include "model/block.h"
#include "model/config.h"
#include "parallel/grid.h"
#include "runtime/parameters.h"

namespace foretoken {

/// A block of which a stage holds all or a half.
struct HeldBlock {
  int layer = 0;
  Block::Part part = Block::Part::whole;
};

/// Blocks of the trunk dealt to the stages in order, in halves (parallel/partition.h). The first stage also
/// embeds; the last also holds the final norm, the MTP modules and the head.
struct ModelLayout {
  Grid grid;
  std::vector<int> halves_per_stage;  // size grid.stages()

  int stages() const { return static_cast<int>(halves_per_stage.size()); }
  std::vector<HeldBlock> blocks_of(int stage) const;
  bool is_first(int stage) const { return stage == 0; }
  bool is_last(int stage) const { return stage == stages() - 1; }
  /// The stages of a pipeline rank, ascending.
  std::vector<int> stages_of(int pp_rank) const;
};

/// The whole model on one rank, in one stage.
ModelLayout one_stage(const ModelConfig& model);

/// "layer 7", "layer 7 attention", "layer 7 MLP"
std::string unit_name(const HeldBlock& block);

/// "model.layers.7"; depth k of an L-layer model is layer L + k − 1, a module that is repeated layer L.
std::string block_prefix(std::int64_t layer);
std::string mtp_prefix(const ModelConfig& model, const MtpConfig& mtp, std::int64_t depth);

inline constexpr const char* embedding_name = "model.embed_tokens.weight";
inline constexpr const char* final_norm_name = "model.norm.weight";
inline constexpr const char* head_name = "lm_head.weight";
/// The matrix that the output head multiplies with: the head's own, or the embedding table where they are
/// tied.
const char* output_matrix_name(const ModelConfig& model);

/// Whether the last stage reads the embedding table: MTP modules embed, a tied head is the table.
bool last_stage_embeds(const ModelConfig& model, const MtpConfig& mtp);

/// What the depths k > 0 own: one unit "mtp k" each, or one alone where the module is repeated.
std::vector<ParameterUnit> head_units(const ModelConfig& model, const MtpConfig& mtp);

/// What a pipeline rank holds, in forward order. The embedding is shared where first and last stage are on
/// two ranks and both need it; the first stage's copy is the canonical one.
std::vector<ParameterUnit> units_of(const ModelConfig& model, const MtpConfig& mtp, const ModelLayout& layout,
                                    int pp_rank);

/// The sets of pipeline ranks that hold the same shared units, in one order whoever asks.
std::vector<std::vector<int>> sharing_ranks(const ModelConfig& model, const MtpConfig& mtp,
                                            const ModelLayout& layout);

}  // namespace foretoken
