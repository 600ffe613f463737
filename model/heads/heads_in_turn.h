#pragma once
// Heads that read the trunk alone, not each other: each runs forward, loss and backward in one turn when the
// microbatch's backward comes, so that memory holds one head's activations at a time, however many there are
// (Gloeckle et al., arXiv 2404.19737, section 2). Their weight gradients are taken in the same turn: there is
// nothing left of a head when the next one runs.

#include "model/heads/prediction_heads.h"

namespace foretoken {

class HeadsInTurn : public PredictionHeads {
 public:
  explicit HeadsInTurn(const HeadsPlan& plan);

  void add_slot(const TrunkTensors& trunk, const TrunkTensors& dtrunk) override;
  void forward(const LayerContext&, const MicrobatchInput&, int) const override {}
  void backward(const LayerContext& context, const MicrobatchInput& input, int slot, Halves halves,
                const DepthLoss& loss, const TrunkProbe& probe, const DepthGradients& deeper) const override;
  Tensor hands_on(int slot) const override { return at(slot).trunk.*reads(); }

 protected:
  /// Both halves of a head's backward, right after hidden(): dhidden [B, T, C] may be overwritten. Returns
  /// the gradient of what it reads of the trunk, undefined where heads are detached; the microbatch's first
  /// head may return that of all heads, to which join() adds the others.
  virtual Tensor head_backward(const LayerContext& context, int slot, int depth, bool first,
                               const Tensor& dhidden) const = 0;
  /// Adds a head's gradient, or that of deeper heads, to that of the trunk.
  virtual void join(const LayerContext& context, int slot, const Tensor& gradient, bool first) const;

  struct Slot {
    TrunkTensors trunk, dtrunk;
  };
  const Slot& at(int slot) const { return slots_[static_cast<std::size_t>(slot)]; }

  Tensor dhidden_;  // [B, T, C]; undefined where nobody wants it

 private:
  std::vector<Slot> slots_;
};

}  // namespace foretoken
