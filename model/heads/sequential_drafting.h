#pragma once
// Drafting by MTP modules in a chain (model/heads/sequential_heads.h). Beyond the last depth, the last module
// runs on its own output, one position further each time.

#include <vector>

#include "model/heads/head_drafting.h"
#include "model/layers/mtp_join.h"

namespace foretoken {

class SequentialDrafting : public HeadDrafting {
 public:
  explicit SequentialDrafting(const DraftingPlan& plan);

  bool is_chained() const override { return true; }
  StateCache::Kept trunk_states() const override { return kept_by(0); }
  bool keeps_states() const override { return true; }
  void forward(int depth, const DepthRows& rows, const StateCache& trunk) const override;
  Output output(int depth, const Tensor& slots, const StateCache& trunk) const override;

 private:
  struct Module {
    MtpJoin join;
    Tensor eh_proj;  // [C, 2C]
    CachedDepth depth;
  };
  StateCache::Kept kept_by(int depth) const;
  const Module& module(int depth) const { return modules_[static_cast<std::size_t>(depth) - 1]; }

  Stream& stream_;
  MtpConfig mtp_;
  TokenTable tokens_;
  Tensor output_matrix_;
  PassScratch scratch_;
  std::vector<Module> modules_;  // by depth
  Tensor embedded_;              // [R, C]
  Tensor joined_;                // [R, 2C]
};

}  // namespace foretoken
