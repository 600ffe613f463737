#pragma once
// Drafting by blocks that read the input of the trunk's last block (model/heads/parallel_heads.h).

#include <vector>

#include "model/heads/head_drafting.h"

namespace foretoken {

class ParallelDrafting : public HeadDrafting {
 public:
  explicit ParallelDrafting(const DraftingPlan& plan);

  const SlotCache* last_input() const override { return &last_input_; }
  bool keeps_states() const override { return true; }
  void forward(int depth, const DepthRows& rows, const StateCache& trunk) const override;
  Output output(int depth, const Tensor& slots, const StateCache& trunk) const override;

 private:
  const CachedDepth& at(int depth) const { return depths_[static_cast<std::size_t>(depth) - 1]; }

  Stream& stream_;
  Tensor output_matrix_;
  PassScratch scratch_;
  SlotCache last_input_;
  std::vector<CachedDepth> depths_;
};

}  // namespace foretoken
