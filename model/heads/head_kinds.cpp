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

template <class Heads, class Drafting>
constexpr HeadKind kind_of() {
  return {.parameters = Heads::parameters,
          .cost = Heads::cost,
          .make = [](const HeadsPlan& plan) -> std::unique_ptr<PredictionHeads> {
            return std::make_unique<Heads>(plan);
          },
          .make_drafting = [](const DraftingPlan& plan) -> std::unique_ptr<HeadDrafting> {
            return std::make_unique<Drafting>(plan);
          },
          .in_turn = std::is_base_of_v<HeadsInTurn, Heads>};
}

}  // namespace

const HeadKind& head_kind(MtpConfig::Kind kind) {
  static const HeadKind sequential = [] {
    HeadKind row = kind_of<SequentialHeads, SequentialDrafting>();
    row.reads_embedding = row.has_block = true;
    return row;
  }();
  static const HeadKind parallel = [] {
    HeadKind row = kind_of<ParallelHeads, ParallelDrafting>();
    row.reads_last_input = row.ends_in_final_norm = row.has_block = true;
    return row;
  }();
  static const HeadKind residual = kind_of<ResidualHeads, DraftingWith<ResidualHeads>>();
  static const HeadKind linear = [] {
    HeadKind row = kind_of<LinearHeads, DraftingWith<LinearHeads>>();
    row.owns_matrix = true;
    return row;
  }();
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
