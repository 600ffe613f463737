#pragma once
// What follows the trunk: the final norm, the output head with the losses of all depths, and the prediction
// heads of the depths k > 0 (model/heads/prediction_heads.h), which it hosts. Where each depth has a stage of
// its own, the main head's stage has depth 0 alone and those behind it a depth each; what they read, and its
// gradient, goes through links (model/heads/heads_link.h).
//
//   depth 0:  n⁰ = RMSNorm(x; model.norm), x the trunk's output, predicts t_{i+1}
//   depth k:  the hidden state that a head makes of the trunk's tensors predicts t_{i+k+1}
//   L = Σₖ weightₖ · mean over the valid targets of depth k in the whole global batch
//
// Losses and their gradients are taken in backward's input half, chunk by chunk, so no gradient of a hidden
// state is kept from forward to backward. The head's weight gradient is accumulated there as well: its logits
// exist at no other time.

#include <memory>
#include <span>
#include <vector>

#include "model/heads/prediction_heads.h"
#include "model/step_sums.h"
#include "runtime/operators/cross_entropy_head.h"

namespace foretoken {

class Predictor {
 public:
  /// With the main head or, where `main` is false, behind it, on prediction heads alone.
  Predictor(const HeadsPlan& plan, bool main);

  /// Links of a microbatch in flight to the stages around.
  struct Links {
    HeadsLink from;  // of a stage behind the main head's
    HeadsLink to;    // where deeper depths follow
  };
  /// Plans the buffers of one more microbatch in flight. `trunk` holds last_input and raw, `dtrunk` raw;
  /// nothing behind the main head.
  void add_slot(TrunkTensors trunk, TrunkTensors dtrunk, const Links& links);

  void forward(const LayerContext& context, const MicrobatchInput& input, int slot) const;
  /// Its input half adds to the sums and fills the gradient of the trunk's output, or of what came down.
  /// gradient_scales[k] = weightₖ / valid targets of depth k; what is undefined in `sums` is not taken.
  void backward(const LayerContext& context, const MicrobatchInput& input, int slot, Halves halves,
                std::span<const double> gradient_scales, const StepSums& sums) const;
  /// [N, C] filled by backward's input half: to be added to what the trunk's last block gives for its input.
  /// Undefined where no head takes that input.
  Tensor last_input_gradient(const MicrobatchInput& input) const;
  /// Where the sums want it and heads take the last block's input: its gradient but for theirs, which comes
  /// after backward's input half.
  void measure_last_input(const LayerContext& context, const Tensor& gradient, const StepSums& sums) const;
  /// Of the microbatch last forwarded into the slot: out [N, V] = the depth's hidden state · its output
  /// matrixᵀ.
  void logits(const LayerContext& context, int slot, int depth, const Tensor& out) const;
  /// Losses and acceptance of its depths alone, what deeper ones count by handed on.
  void evaluate(const LayerContext& context, const MicrobatchInput& input, int slot,
                const StepSums& sums) const;

 private:
  /// Of one microbatch in flight; the gradients of normed are one tensor for all, unless a weight half may
  /// come later.
  struct Slot {
    TrunkTensors trunk, dtrunk;
    Tensor rstd;  // [N]
    Links links;
  };
  const Slot& at(int slot) const { return slots_[static_cast<std::size_t>(slot)]; }
  Tensor hidden(const LayerContext& context, int slot, int depth) const;
  OutputMatrix output(int depth) const { return depth == 0 ? head_ : heads_->output(depth); }
  /// Depths in their order: acceptance is that of a prefix.
  void take_loss(const LayerContext& context, const MicrobatchInput& input, int slot, CrossEntropyHead loss,
                 int depth, const StepSums& sums) const;
  TrunkProbe probe_into(const LayerContext& context, int slot, const StepSums& sums) const;
  void begin_gradient(const LayerContext& context, const Slot& slot) const;
  void end_gradient(const LayerContext& context, const MicrobatchInput& input, const Slot& slot) const;
  /// The main loss's gradient of what the heads read, which is in dtrunk.normed or follows from it.
  void measure_main(const LayerContext& context, const Slot& slot, const StepSums& sums) const;

  Arena& arena_;
  double eps_;
  bool main_;
  bool frozen_;  // the main model takes no gradients
  ActivationPlan plan_;
  std::unique_ptr<PredictionHeads> heads_;  // none where D = 0
  Tensor norm_, dnorm_;                     // [C]
  OutputMatrix head_;
  Tensor logits_;                         // [chunk, V]
  Tensor main_argmax_, argmax_, agrees_;  // [B, T] i32, of acceptance
  // Where gradients at the trunk are measured, [N, C]: the main loss's; of parallel heads each depth's, since
  // the main loss's comes after them.
  Tensor main_gradient_;
  std::vector<Tensor> depth_gradients_;  // [D]
  std::vector<Slot> slots_;
};

}  // namespace foretoken
