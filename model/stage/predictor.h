#pragma once
// Everything after the trunk: the main head, the prediction heads of the depths k > 0, the losses of all
// depths, and what a step measures about them. If each depth has a stage of its own, the main head's stage
// computes depth 0 alone and each following stage one depth.
//
//   L = Σₖ weightₖ · mean over the valid targets of depth k in the whole global batch
//
// Losses and their gradients are computed in backward's input half, in chunks of rows, so no gradient of a
// hidden state is kept from forward to backward. The output head's weight gradient is accumulated in the
// same pass, because the logits exist only then.

#include <optional>

#include "model/stage/depth_losses.h"
#include "model/stage/hosted_heads.h"
#include "model/stage/main_head.h"
#include "model/stage/trunk_gradients.h"

namespace foretoken {

class Predictor {
 public:
  /// `main`: this stage has the main head. Otherwise it follows the main head's stage and has prediction
  /// heads alone.
  Predictor(const HeadsPlan& plan, bool main);

  /// Plans the buffers of one more microbatch in flight. On the main head's stage `trunk` holds last_input
  /// and raw, `dtrunk` raw; on later stages both are empty.
  void add_slot(TrunkTensors trunk, TrunkTensors dtrunk, const HostedHeads::Links& links);

  void forward(const StagePass& pass) const;
  /// The input half adds to the pass's sums and writes the gradient of the trunk's output, or of the link's
  /// input.
  void backward(const BackwardPass& op) const;
  /// After backward's input half, on the main head's stage: dx [N, C] holds the gradient that the last block
  /// computed for its input. Measures it if the pass requests that, then adds the heads' gradient of it.
  void join_last_input(const StagePass& pass, const Tensor& dx) const;
  /// For the microbatch last forwarded into the slot: out [N, V] = the depth's hidden state · its output
  /// matrixᵀ.
  void logits(const LayerContext& context, int slot, int depth, const Tensor& out) const;
  /// After forward: adds the losses of this stage's depths and, if the pass requests it, the acceptance.
  void evaluate(const StagePass& pass) const { run_outputs(pass, true); }
  /// After forward: adds the acceptance alone.
  void count_drafts(const StagePass& pass) const { run_outputs(pass, false); }

 private:
  /// Runs the output matrices of all depths without gradients, and sends the next stage what it needs to
  /// count its drafts.
  void run_outputs(const StagePass& pass, bool losses) const;
  const AcceptanceTokens& tokens(int slot) const;
  Tensor hidden(const LayerContext& context, int slot, int depth) const;
  const OutputMatrix& matrix(int depth) const {
    return depth == 0 ? main_->matrix() : heads_->heads().output(depth);
  }

  std::optional<MainHead> main_;
  std::optional<HostedHeads> heads_;  // in a model with depths
  DepthLosses losses_;
  std::optional<TrunkGradients> trunk_gradients_;  // beside the main head, if they are ever measured
};

}  // namespace foretoken
