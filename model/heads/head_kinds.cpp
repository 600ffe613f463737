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
HeadKind kind_of() {
  return {.parameters = Heads::parameters,
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
  static const HeadKind sequential = kind_of<SequentialHeads, SequentialDrafting>();
  static const HeadKind parallel = kind_of<ParallelHeads, ParallelDrafting>();
  static const HeadKind residual = kind_of<ResidualHeads, DraftingWith<ResidualHeads>>();
  static const HeadKind linear = kind_of<LinearHeads, DraftingWith<LinearHeads>>();
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

}  // namespace foretoken
