#pragma once
// The losses of a stage's depths, and the count of accepted drafts. Logits exist for a chunk of rows of one
// depth at a time; their gradients, and the output matrix' gradient, are computed while they exist.

#include "model/heads/prediction_heads.h"

namespace foretoken {

class DepthLosses {
 public:
  explicit DepthLosses(const HeadsPlan& plan);

  /// What is computed from one depth's logits.
  struct Work {
    const DepthOutput& output;
    bool loss = true;           // adds to pass.sums.losses
    double gradient_scale = 0;  // of the gradients in `output`, if there are any
    bool accumulate = true;     // += into the matrix' gradient, otherwise =
  };
  /// Also counts the depth's drafts if the pass requests it, by means of `tokens`. Depths must be run in
  /// ascending order, because acceptance is counted along a prefix.
  void run(const StagePass& pass, const AcceptanceTokens& tokens, const Work& work) const;

  /// For the main head's stage: buffers that all its microbatches share.
  const AcceptanceTokens& tokens() const { return tokens_; }

 private:
  Tensor logits_;            // [chunk, V]
  AcceptanceTokens tokens_;  // undefined in a model without prediction heads, as is draft_argmax_
  Tensor draft_argmax_;      // [B, T] i32, the likeliest tokens of the depth that is running
};

}  // namespace foretoken
