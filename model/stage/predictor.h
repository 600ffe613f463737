#pragma once
// Everything after the trunk: the main head, the prediction heads of the depths k > 0, the losses of all
// depths, and the measurements of a step (acceptance, gradients at the trunk). If each depth has a stage of
// its own, the main head's stage computes only depth 0 and each following stage one depth.
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
  /// `main` is whether this stage has the main head. A stage without it follows the main head's stage and has
  /// only prediction heads.
  Predictor(const HeadsPlan& plan, bool main);

  /// Plans the buffers of one more microbatch in flight. On the main head's stage `trunk` has last_input and
  /// raw, and `dtrunk` has raw. On later stages all members are undefined.
  void add_slot(TrunkTensors trunk, TrunkTensors dtrunk, const HostedHeads::Links& links);

  void forward(const StagePass& pass) const;
  /// The input half adds to the pass's sums and writes the gradient of the trunk's output or, on later
  /// stages, of the tensor received over the link.
  void backward(const BackwardPass& op) const;
  /// Called after backward's input half, on the main head's stage. dx [N, C] holds the last block's gradient
  /// of its input. Measures dx if the pass requests that, then adds the heads' gradient of the same input to
  /// dx.
  void join_last_input(const StagePass& pass, const Tensor& dx) const;
  /// Writes the depth's logits to out [N, V], for the microbatch that forward() ran last in the slot.
  void logits(const LayerContext& context, int slot, int depth, const Tensor& out) const;
  /// After forward: adds the losses of this stage's depths and, if the pass requests it, the acceptance.
  void evaluate(const StagePass& pass) const { run_outputs(pass, true); }
  /// After forward: adds only the acceptance.
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
  std::optional<HostedHeads> heads_;  // set if the model has depths
  DepthLosses losses_;
  std::optional<TrunkGradients> trunk_gradients_;  // on the main head's stage, if steps measure them
};

}  // namespace foretoken
