#pragma once
// Heads that read the trunk alone and not each other. When the microbatch's backward comes, each head in
// turn runs forward, loss and both halves of backward, so memory holds the activations of one head however
// many there are (Gloeckle et al., arXiv 2404.19737, section 2). Weight gradients cannot be deferred: the
// next head overwrites this head's activations.

#include "model/heads/prediction_heads.h"

namespace foretoken {

class HeadsInTurn : public PredictionHeads {
 public:
  HeadsInTurn(const HeadsPlan& plan, Outputs outputs);

  void add_slot(const TrunkTensors& trunk, const TrunkTensors& dtrunk) override;
  void forward(const LayerContext&, const MicrobatchInput&, int) const override {}
  void backward(const LayerContext& context, const MicrobatchInput& input, int slot, Halves halves,
                const DepthLoss& loss, const TrunkProbe& probe, const DepthGradients& deeper) const override;
  Tensor next_depth_input(int slot) const override { return at(slot).trunk.*reads(); }

 protected:
  /// Runs both halves of a head's backward, right after hidden(); may overwrite dhidden [B, T, C]. Returns
  /// the gradient of the trunk tensor that the head reads, undefined if heads are detached. For `first`, the
  /// microbatch's first head, it may return the buffer that holds the sum over heads, to which join() adds
  /// the others.
  virtual Tensor head_backward(const LayerContext& context, int slot, int depth, bool first,
                               const Tensor& dhidden) const = 0;
  /// Adds the gradient of one head, or the sum of deeper heads, to the trunk's.
  virtual void join(const LayerContext& context, int slot, const Tensor& gradient, bool first) const;

  struct Slot {
    TrunkTensors trunk, dtrunk;
  };
  const Slot& at(int slot) const { return slots_[static_cast<std::size_t>(slot)]; }

  Tensor dhidden_;  // [B, T, C]; undefined if the stage computes no head

 private:
  std::vector<Slot> slots_;
};

}  // namespace foretoken
