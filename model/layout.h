#pragma once
// Which stage and which rank holds what: halves of blocks, embedding, MTP modules, head; and the names of it
// all.

#include <string>
#include <vector>

#include "model/block.h"
#include "model/config.h"
#include "model/layer_context.h"
#include "parallel/grid.h"
#include "runtime/parameters.h"

namespace foretoken {

/// A block of which a stage holds all or a half.
struct HeldBlock {
  int layer = 0;
  Block::Part part = Block::Part::whole;
};

/// Blocks of the trunk dealt to the stages in order, in halves (parallel/partition.h). The first stage also
/// embeds. The trunk's last stage also holds the final norm and the main head, and the prediction heads of
/// all depths, unless stages behind it hold one each.
struct ModelLayout {
  Grid grid;
  std::vector<int> halves_per_stage;  // size grid.stages()
  int depth_stages = 0;               // behind the trunk's last: 0 or one per depth

  int stages() const { return static_cast<int>(halves_per_stage.size()); }
  /// Of the final norm and the main head.
  int head_stage() const { return stages() - 1 - depth_stages; }
  /// Of the depth's prediction head; of the main head for 0.
  int stage_of_depth(int depth) const { return head_stage() + (depth_stages > 0 ? depth : 0); }
  /// The depths k > 0 that a stage computes.
  DepthRange depths_of(int stage, const MtpConfig& mtp) const;
  std::vector<HeldBlock> blocks_of(int stage) const;
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

/// What a stage reads beside its blocks.
struct StageTensors {
  bool embedding = false;  // tokens, MTP modules and a tied output head look into the table
  bool final_norm = false;
  bool head = false;  // lm_head
  DepthRange depths;  // prediction heads
};
StageTensors tensors_of(const ModelConfig& model, const MtpConfig& mtp, const ModelLayout& layout, int stage);

/// What the depths k > 0 own: one unit "mtp k" each, or one alone where the module is repeated.
std::vector<ParameterUnit> head_units(const ModelConfig& model, const MtpConfig& mtp);

/// What a pipeline rank holds, in forward order. What stages of several ranks read is shared: the canonical
/// copy of the embedding is the first stage's, of all else that of the first stage which reads it. The first
/// contribution to the output matrix and to a repeated module overwrites their gradients where no other stage
/// of the rank contributes.
std::vector<ParameterUnit> units_of(const ModelConfig& model, const MtpConfig& mtp, const ModelLayout& layout,
                                    int pp_rank);

/// The sets of pipeline ranks that hold the same shared units, in one order whoever asks.
std::vector<std::vector<int>> sharing_ranks(const ModelConfig& model, const MtpConfig& mtp,
                                            const ModelLayout& layout);

}  // namespace foretoken
