#pragma once
// The probe on the main head's stage. It sums gₖ² and gₖ · g₀, where gₖ is the gradient that the weighted
// loss of depth k gives the trunk tensor that the heads read (StepSums::squares and products).

#include <optional>
#include <vector>

#include "model/heads/prediction_heads.h"
#include "model/heads/trunk_probe.h"

namespace foretoken {

class TrunkGradients : public TrunkProbe {
 public:
  /// `reads`: the tensor that the heads read.
  TrunkGradients(const HeadsPlan& plan, TrunkTensor reads);

  /// Whether g₀ is computed before the heads' backward. It is computed after the heads' backward if they read
  /// the last block's input, because the last block computes that gradient.
  bool main_first() const { return main_gradient_.has_value(); }
  /// The tensor [N, C] that the caller fills with g₀ before add_main(); requires main_first().
  const Tensor& main_gradient() const { return *main_gradient_; }
  /// Adds g₀. Requires main_first().
  void add_main(const StagePass& pass) const;
  void add(const StagePass& pass, int depth, const Tensor& gradient) const override;
  /// Adds g₀ [N, C], the gradient of the last block's input without the heads' contribution. Must not be
  /// called if main_first().
  void add_main_last(const StagePass& pass, const Tensor& gradient) const;

 private:
  std::optional<Tensor> main_gradient_;  // [N, C] g₀, read for every gₖ · g₀; only if main_first()
  std::vector<Tensor>
      depth_gradients_;  // [D], each [N, C]: gₖ, kept until g₀ is known; only if not main_first()
};

}  // namespace foretoken
