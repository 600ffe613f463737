#pragma once
// Drafting by heads whose hidden state depends only on the trunk's normed state at the same position. They
// need no cache of their own: the heads run when their logits are requested.

#include <memory>

#include "model/heads/head_drafting.h"
#include "model/heads/prediction_heads.h"

namespace foretoken {

class NormedDrafting : public HeadDrafting {
 public:
  Output output(int depth, const Tensor& slots, const StateCache& trunk) const override;

 protected:
  using MakeHeads = std::unique_ptr<PredictionHeads> (*)(const HeadsPlan& plan);
  NormedDrafting(const DraftingPlan& plan, MakeHeads make);

 private:
  LayerContext context_;
  Tensor input_;  // [M, 1, C] the trunk's states, as one microbatch of M rows of one token
  std::unique_ptr<PredictionHeads> heads_;
};

/// Drafting by the class Heads.
template <class Heads>
class DraftingWith : public NormedDrafting {
 public:
  explicit DraftingWith(const DraftingPlan& plan)
      : NormedDrafting(plan, [](const HeadsPlan& heads) -> std::unique_ptr<PredictionHeads> {
          return std::make_unique<Heads>(heads);
        }) {}
};

}  // namespace foretoken
