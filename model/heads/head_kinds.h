#pragma once
// The table of the classes of prediction heads, one row per kind: what makes and drafts with the heads of a
// kind. heads/head_facts.h has its other properties. A new kind adds its name, its facts and its row, and
// changes no code outside this folder.

#include <memory>
#include <string>
#include <vector>

#include "model/heads/head_drafting.h"
#include "model/heads/prediction_heads.h"

namespace foretoken {

struct HeadKind {
  /// Specs of the parameters of one depth; their names start with `prefix`.
  std::vector<ParameterSpec> (*parameters)(const ModelConfig& model, const MtpConfig& mtp,
                                           const std::string& prefix) = nullptr;
  std::unique_ptr<PredictionHeads> (*make)(const HeadsPlan& plan) = nullptr;
  std::unique_ptr<HeadDrafting> (*make_drafting)(const DraftingPlan& plan) = nullptr;
  bool in_turn = false;  // derived from HeadsInTurn; equals HeadFacts::in_turn
};
const HeadKind& head_kind(MtpConfig::Kind kind);

}  // namespace foretoken
