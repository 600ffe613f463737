#pragma once
// Measures, in a step that requests it, each depth's gradient at the trunk: the gradient that the depth's
// loss alone gives the trunk tensor that the heads read. Heads compute the gradient; a probe adds it to the
// step's sums, or sends it to the stage that does so.

#include "model/stage_pass.h"

namespace foretoken {

class TrunkProbe {
 public:
  virtual ~TrunkProbe() = default;
  /// Adds one depth's gradient [N, C] or [B, T, C], which may be overwritten afterwards.
  virtual void add(const StagePass& pass, int depth, const Tensor& gradient) const = 0;
};

}  // namespace foretoken
