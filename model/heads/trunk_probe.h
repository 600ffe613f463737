#pragma once
// Measures, on a step that requests it, the gradient that each depth's loss alone gives the trunk tensor that
// the heads read. Heads compute that gradient; a probe sums it up, or sends it to the stage that does.

#include "model/stage_pass.h"

namespace foretoken {

class TrunkProbe {
 public:
  virtual ~TrunkProbe() = default;
  /// Adds one depth's gradient [N, C] or [B, T, C], which may be overwritten afterwards.
  virtual void add(const StagePass& pass, int depth, const Tensor& gradient) const = 0;
};

}  // namespace foretoken
