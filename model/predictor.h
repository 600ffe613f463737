#pragma once
// Everything after the trunk: the final norm, the output head with the losses of all depths, and the
// prediction heads of the depths k > 0 (model/heads/prediction_heads.h), which the predictor hosts. If each
// depth has a stage of its own, the main head's stage computes depth 0 alone and each following stage one
// depth; what a depth reads and its gradient pass between stages through links (model/heads/heads_link.h).
//
//   depth 0:  n⁰ = RMSNorm(x; model.norm), x the trunk's output, predicts t_{i+1}
//   depth k:  a head's hidden state, computed from the trunk's tensors, predicts t_{i+k+1}
//   L = Σₖ weightₖ · mean over the valid targets of depth k in the whole global batch
//
// Losses and their gradients are computed in backward's input half, in chunks of rows, so no gradient of a
// hidden state is kept from forward to backward. The output head's weight gradient is accumulated in the
// same pass, because the logits exist only then.

#include <memory>
#include <span>
#include <vector>

#include "model/heads/prediction_heads.h"
#include "model/step_sums.h"
#include "runtime/operators/vocabulary/cross_entropy_head.h"

namespace foretoken {

class Predictor {
 public:
  /// `main`: this stage has the main head. Otherwise it follows the main head's stage and has prediction
  /// heads alone.
  Predictor(const HeadsPlan& plan, bool main);

  /// Links of a microbatch in flight to the neighbouring stages.
  struct Links {
    HeadsLink from;  // from the previous stage; unused on the main head's stage
    HeadsLink to;    // to the next stage, if deeper depths follow
  };
  /// Plans the buffers of one more microbatch in flight. On the main head's stage `trunk` holds last_input
  /// and raw, `dtrunk` raw; on later stages both are empty.
  void add_slot(TrunkTensors trunk, TrunkTensors dtrunk, const Links& links);

  void forward(const LayerContext& context, const MicrobatchInput& input, int slot) const;
  /// The input half adds to `sums` and writes the gradient of the trunk's output, or of the link's input.
  /// gradient_scales[k] = weightₖ / valid targets of depth k. Undefined members of `sums` are not computed.
  void backward(const LayerContext& context, const MicrobatchInput& input, int slot, Halves halves,
                std::span<const double> gradient_scales, const StepSums& sums) const;
  /// [N, C] filled by backward's input half: the heads' gradient of the last block's input, to be added to
  /// the block's own. Undefined if no head reads that input.
  Tensor last_input_gradient(const MicrobatchInput& input) const;
  /// Measures the main loss's gradient of the last block's input, if `sums` asks for it and heads read that
  /// input. `gradient` excludes the heads' contribution and exists only after backward's input half.
  void measure_last_input(const LayerContext& context, const Tensor& gradient, const StepSums& sums) const;
  /// For the microbatch last forwarded into the slot: out [N, V] = the depth's hidden state · its output
  /// matrixᵀ.
  void logits(const LayerContext& context, int slot, int depth, const Tensor& out) const;
  /// Adds the losses and the acceptance of this stage's depths, and sends later stages what they need to
  /// count theirs.
  void evaluate(const LayerContext& context, const MicrobatchInput& input, int slot,
                const StepSums& sums) const;

 private:
  /// Buffers of one microbatch in flight. All slots share one gradient of normed, unless the weight half may
  /// run later.
  struct Slot {
    TrunkTensors trunk, dtrunk;
    Tensor rstd;  // [N]
    Links links;
  };
  const Slot& at(int slot) const { return slots_[static_cast<std::size_t>(slot)]; }
  Tensor hidden(const LayerContext& context, int slot, int depth) const;
  OutputMatrix output(int depth) const { return depth == 0 ? head_ : heads_->output(depth); }
  /// Depths must be taken in ascending order, because acceptance is counted along a prefix.
  void compute_loss(const LayerContext& context, const MicrobatchInput& input, int slot,
                    CrossEntropyHead loss, int depth, const StepSums& sums) const;
  TrunkProbe probe_into(const LayerContext& context, int slot, const StepSums& sums) const;
  void begin_gradient(const LayerContext& context, const Slot& slot) const;
  void end_gradient(const LayerContext& context, const MicrobatchInput& input, const Slot& slot) const;
  /// Measures the main loss's gradient of the tensor that heads read: dtrunk.normed, or a tensor computed
  /// from it.
  void measure_main(const LayerContext& context, const Slot& slot, const StepSums& sums) const;

  Arena& arena_;
  double eps_;
  bool main_;
  bool frozen_;  // the main model is not trained
  ActivationPlan plan_;
  std::unique_ptr<PredictionHeads> heads_;  // null if D = 0
  Tensor norm_, dnorm_;                     // [C]
  OutputMatrix head_;
  Tensor logits_;                         // [chunk, V]
  Tensor main_argmax_, argmax_, agrees_;  // [B, T] i32, for acceptance
  // [N, C], if gradients at the trunk are measured: the main loss's gradient. For parallel heads each
  // depth's gradient is kept instead, because the main loss's is computed after theirs.
  Tensor main_gradient_;
  std::vector<Tensor> depth_gradients_;  // [D]
  std::vector<Slot> slots_;
};

}  // namespace foretoken
