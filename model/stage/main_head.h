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

  /// Plans the buffers of one more microbatch in flight. Reads the member `raw` of `trunk` and `dtrunk` and
  /// sets their member `normed`.
  void add_slot(TrunkTensors& trunk, TrunkTensors& dtrunk);
  void forward(const LayerContext& context, int slot) const;

  const OutputMatrix& matrix() const { return matrix_; }
  /// The arguments of the loss of depth 0, without gradients if the main model is frozen.
  DepthOutput output(int slot) const;
  /// Writes to out [N, C] the gradient of trunk tensor `of` (normed or raw) that follows from dtrunk.normed.
  /// Does not change the gradients of parameters.
  void trunk_gradient(const LayerContext& context, int slot, TrunkTensor of, const Tensor& out) const;
  /// Computes dtrunk.raw from dtrunk.normed: overwrites it or, with `accumulate`, adds to it. Adds to the
  /// norm's gradient.
  void backward(const LayerContext& context, int slot, bool accumulate) const;

 private:
  struct Slot {
    Tensor raw, raw_gradient;        // [N, C]
    Tensor normed, normed_gradient;  // [B, T, C]
    Tensor rstd;                     // [N]
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
