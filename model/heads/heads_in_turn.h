#pragma once
// Heads that read the trunk and not each other. They run in the microbatch's backward, one after another:
// each runs forward, loss and both halves of its backward before the next one starts. So memory holds the
// activations of one head only (Gloeckle et al., arXiv 2404.19737, section 2). Weight gradients cannot be
// deferred, because the next head overwrites this head's activations.

#include "model/heads/prediction_heads.h"

namespace foretoken {

class HeadsInTurn : public PredictionHeads {
 public:
  /// `reads_dhidden`: whether head_backward() reads the gradient of the hidden state.
  HeadsInTurn(const HeadsPlan& plan, Outputs outputs, bool reads_dhidden = true);

  void add_slot(const TrunkTensors& trunk, const TrunkTensors& dtrunk) override;
  void forward(const StagePass&) const override {}
  void backward(const Backward& op) const override;
  Tensor next_depth_input(int slot) const override { return at(slot).trunk[reads()]; }

 protected:
  /// The head that is running.
  struct Turn {
    const LayerContext& context;
    int slot = 0;
    int depth = 1;
    bool first = true;  // join() has not been called for this microbatch yet
  };
  /// Runs both halves of a head's backward, right after hidden(). The loss has filled dhidden(), which may be
  /// overwritten. Returns the gradient of the trunk tensor that the head reads; empty if heads are detached.
  /// The first head may write its gradient directly to the buffer of the sum over heads and return that.
  virtual std::optional<Tensor> head_backward(const Turn& turn) const = 0;
  /// Adds the gradient of one head, or the sum of the heads on later stages, to the trunk's gradient.
  virtual void join(const Turn& turn, const Tensor& gradient) const;

  const Tensor& dhidden() const { return *dhidden_; }

  struct Slot {
    TrunkTensors trunk, dtrunk;
  };
  const Slot& at(int slot) const { return slots_[static_cast<std::size_t>(slot)]; }

 private:
  std::optional<Tensor> dhidden_;  // [B, T, C], if the stage computes a head that reads it
  std::vector<Slot> slots_;
};

}  // namespace foretoken
