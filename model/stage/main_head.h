#pragma once
// The main model's head: final norm and output matrix, on the trunk's last stage.
//
//   n⁰ = RMSNorm(x; model.norm), x the trunk's output;  logits = n⁰ Wᵀ predict t_{i+1}

#include <vector>

#include "model/heads/prediction_heads.h"

namespace foretoken {

class MainHead {
 public:
  explicit MainHead(const HeadsPlan& plan);

  /// Plans one more microbatch in flight: `trunk` and `dtrunk` hold `raw` and receive `normed`.
  void add_slot(TrunkTensors& trunk, TrunkTensors& dtrunk);
  void forward(const LayerContext& context, int slot) const;

  const OutputMatrix& matrix() const { return matrix_; }
  /// What the loss needs; a frozen main model has no gradients.
  DepthOutput output(int slot) const;
  /// out [N, C] = the gradient that dtrunk.normed alone gives `normed` or `raw`; no parameter's gradient
  /// changes.
  void trunk_gradient(const LayerContext& context, int slot, TrunkTensor of, const Tensor& out) const;
  /// dtrunk.normed → dtrunk.raw, = or, with `accumulate`, +=; += into the norm's gradient.
  void backward(const LayerContext& context, int slot, bool accumulate) const;

 private:
  struct Slot {
    Tensor raw, draw;        // [N, C]
    Tensor normed, dnormed;  // [B, T, C]
    Tensor rstd;             // [N]
  };
  const Slot& at(int slot) const { return slots_[static_cast<std::size_t>(slot)]; }

  Arena& arena_;
  ActivationPlan plan_;
  double eps_;
  bool frozen_;
  Tensor norm_, dnorm_;  // [C]
  OutputMatrix matrix_;
  std::vector<Slot> slots_;
};

}  // namespace foretoken
