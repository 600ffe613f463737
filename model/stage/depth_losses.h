#pragma once
// The losses of a stage's depths, and the number of accepted drafts. Memory holds the logits of one chunk of
// rows of one depth at a time. The gradients of the hidden states and of the output matrix are computed from
// a chunk before the next one overwrites it.

#include "model/heads/prediction_heads.h"

namespace foretoken {

class DepthLosses {
 public:
  explicit DepthLosses(const HeadsPlan& plan);

  /// A depth, and what run() computes from its logits.
  struct Work {
    const DepthOutput& output;
    bool loss = true;           // adds to pass.sums.losses
    double gradient_scale = 0;  // factor of the gradients, if `output` has any
    bool accumulate = true;     // += into the matrix' gradient, otherwise =
  };
  /// Also counts the depth's accepted drafts if the pass requests it, by comparison with `tokens`. Depths
  /// must be run in ascending order, because a draft counts as accepted only if all shallower drafts do.
  void run(const StagePass& pass, const AcceptanceTokens& tokens, const Work& work) const;

  /// Buffers for run() on the main head's stage, shared by all microbatches.
  const AcceptanceTokens& tokens() const { return tokens_; }

 private:
  Tensor logits_;            // [chunk, V]
  AcceptanceTokens tokens_;  // undefined in a model without prediction heads, as is draft_argmax_
  Tensor draft_argmax_;      // [B, T] i32, the likeliest tokens of the depth that is running
};

}  // namespace foretoken
