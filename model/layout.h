#pragma once
// Which stage and which rank holds which part of the model: halves of blocks, embedding, MTP modules, output
// head.

#include <string>
#include <vector>

#include "model/config.h"
#include "model/layer_context.h"
#include "model/layers/block.h"
#include "model/unit_id.h"
#include "parallel/grid.h"
#include "runtime/operators/parameters/parameters.h"

namespace foretoken {

/// A block, or half of a block, that a stage holds.
struct HeldBlock {
  int layer = 0;
  Block::Part part = Block::Part::whole;
};

/// Assignment of the trunk's blocks to stages, in order and in units of half a block
/// (parallel/planning/partition.h). The first stage also holds the embedding. The trunk's last stage also
/// holds the final norm, the main head and the prediction heads; with depth_stages, each depth has a further
/// stage instead.
struct ModelLayout {
  Grid grid;
  std::vector<int> halves_per_stage;  // size grid.stages()
  int depth_stages = 0;               // stages after the trunk's last stage: 0, or one per depth

  int stages() const { return static_cast<int>(halves_per_stage.size()); }
  /// The stage of the final norm and the main head.
  int head_stage() const { return stages() - 1 - depth_stages; }
  /// The stage of the depth's prediction head; depth 0 is the main head.
  int stage_of_depth(int depth) const { return head_stage() + (depth_stages > 0 ? depth : 0); }
  /// The depths k > 0 that a stage computes.
  DepthRange depths_of(int stage, const MtpConfig& mtp) const;
  std::vector<HeldBlock> blocks_of(int stage) const;
  /// The stages of a pipeline rank, ascending.
  std::vector<int> stages_of(int pp_rank) const;
};

/// The whole model on one rank, in one stage.
ModelLayout one_stage(const ModelConfig& model);

UnitId id_of(const HeldBlock& block);

/// The tensors that a stage reads in addition to its blocks.
struct StageTensors {
  bool embedding = false;  // the first stage, MTP modules and a tied output head read the table
  bool final_norm = false;
  bool head = false;  // lm_head
  DepthRange depths;  // prediction heads
};
StageTensors tensors_of(const ModelConfig& model, const MtpConfig& mtp, const ModelLayout& layout, int stage);

/// The units of the prediction heads: one per depth (UnitId::Kind::mtp), or a single one if the module is
/// repeated.
std::vector<ParameterUnit> head_units(const ModelConfig& model, const MtpConfig& mtp);

/// The units that a pipeline rank holds, in forward order. A unit that stages of several ranks read is
/// shared; its canonical copy is on the first stage that reads it. A gradient is either
/// overwritten by the step's first contribution, or zeroed at the start of the step and added to. A repeated
/// module's gradient is overwritten only if a single stage of this rank reads the module. The output matrix'
/// gradient is overwritten only if the main head's stage is the only one of this rank that reads the matrix.
std::vector<ParameterUnit> units_of(const ModelConfig& model, const MtpConfig& mtp, const ModelLayout& layout,
                                    int pp_rank);

/// The distinct sets of pipeline ranks that hold the same shared units, in the same order on every rank.
std::vector<std::vector<int>> sharing_ranks(const ModelConfig& model, const MtpConfig& mtp,
                                            const ModelLayout& layout);

}  // namespace foretoken
