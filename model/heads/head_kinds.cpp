#include "model/heads/head_kinds.h"

#include <type_traits>

#include "model/heads/heads_in_turn.h"
#include "model/heads/linear_heads.h"
#include "model/heads/normed_drafting.h"
#include "model/heads/parallel_drafting.h"
#include "model/heads/parallel_heads.h"
#include "model/heads/residual_heads.h"
#include "model/heads/sequential_drafting.h"
#include "model/heads/sequential_heads.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

/// The row of a kind: the properties given, and the functions of its classes.
template <class Heads, class Drafting>
HeadKind kind_of(HeadKind row) {
  row.parameters = Heads::parameters;
  row.cost = Heads::cost;
  row.make = [](const HeadsPlan& plan) -> std::unique_ptr<PredictionHeads> {
    return std::make_unique<Heads>(plan);
  };
  row.make_drafting = [](const DraftingPlan& plan) -> std::unique_ptr<HeadDrafting> {
    return std::make_unique<Drafting>(plan);
  };
  row.in_turn = std::is_base_of_v<HeadsInTurn, Heads>;
  return row;
}

}  // namespace

const HeadKind& head_kind(MtpConfig::Kind kind) {
  static const HeadKind sequential = kind_of<SequentialHeads, SequentialDrafting>(
      {.description = "a chain of MTP modules",
       .noun = [](const MtpConfig&) -> std::string_view { return "MTP module"; },
       .settings = {"repeat", "concat", "trunk_hidden", "recycled_hidden"},
       .reads_embedding = true,
       .reads_previous_depth = true,
       .has_block = true});
  static const HeadKind parallel = kind_of<ParallelHeads, ParallelDrafting>(
      {.description = "blocks parallel to the last one",
       .noun = [](const MtpConfig&) -> std::string_view { return "parallel head"; },
       .reads_last_input = true,
       .ends_in_final_norm = true,
       .has_block = true});
  static const HeadKind residual = kind_of<ResidualHeads, DraftingWith<ResidualHeads>>(
      {.description = "small residual networks",
       .noun = [](const MtpConfig& mtp) -> std::string_view {
         return mtp.residual_form == MtpConfig::ResidualForm::mlp ? "residual head" : "Medusa head";
       },
       .settings = {"residual_form", "own_output"}});
  static const HeadKind linear = kind_of<LinearHeads, DraftingWith<LinearHeads>>(
      {.description = "output matrices alone",
       .noun = [](const MtpConfig&) -> std::string_view { return "linear head"; },
       .owns_matrix = true});
  switch (kind) {
    case MtpConfig::Kind::sequential:
      return sequential;
    case MtpConfig::Kind::parallel:
      return parallel;
    case MtpConfig::Kind::residual:
      return residual;
    case MtpConfig::Kind::linear:
      return linear;
  }
  throw DefectError("heads: unknown kind {}", static_cast<int>(kind));
}

bool owns_matrix(const MtpConfig& mtp) {
  return head_kind(mtp.kind).owns_matrix || mtp.own_output;
}

}  // namespace foretoken
