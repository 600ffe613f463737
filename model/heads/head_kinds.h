#pragma once
// The table of the kinds of prediction heads, one row per kind.

#include <memory>
#include <string>
#include <vector>

#include "model/heads/head_drafting.h"
#include "model/heads/prediction_heads.h"

namespace foretoken {

/// Properties of a kind that code outside its class needs.
struct HeadKind {
  /// Specs of the parameters of one depth; their names start with `prefix`.
  std::vector<ParameterSpec> (*parameters)(const ModelConfig& model, const MtpConfig& mtp,
                                           const std::string& prefix);
  /// Forward FLOPs per token of one depth without its output matrix, if a block costs `block`.
  double (*cost)(const ModelConfig& model, const MtpConfig& mtp, double block);
  std::unique_ptr<PredictionHeads> (*make)(const HeadsPlan& plan);
  std::unique_ptr<HeadDrafting> (*make_drafting)(const DraftingPlan& plan);
  bool reads_embedding = false;     // reads the embedding table
  bool reads_last_input = false;    // reads the last block's input; the main head's stage must hold it
  bool ends_in_final_norm = false;  // a depth applies the main model's final norm
  bool owns_matrix = false;         // a depth always has its own output matrix
  bool has_block = false;           // a depth has a decoder block
  bool in_turn = false;             // forward, loss and backward of a depth run in the microbatch's backward
};
const HeadKind& head_kind(MtpConfig::Kind kind);

/// Whether every depth has its own output matrix.
bool owns_matrix(const MtpConfig& mtp);

}  // namespace foretoken
