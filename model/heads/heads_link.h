#pragma once
// Messages between two neighbouring stages if each depth has a stage of its own
// (MtpConfig::Placement::stage_per_depth). The later stage holds depth `first`, the stages after it the
// depths up to D. One message goes downstream, in place of an activation, and one upstream, in place of its
// gradient.
//
//   downstream  hidden, the input of depth `first`: for heads in a chain the hidden state of the previous
//               depth, for others the trunk tensor that all of them read. If drafts are counted, also the
//               main model's likeliest tokens, and which positions' drafts agree with them at all depths so
//               far.
//   upstream    the gradient of `hidden`, summed over the losses of depths first..D. If gradients at the
//               trunk are measured, also the gradient from each depth alone.

#include <vector>

#include "model/layer_context.h"
#include "runtime/arena.h"

namespace foretoken {

/// Gradients of a tensor that depths first..D read.
struct DepthGradients {
  Tensor sum;                    // [B, T, C]
  std::vector<Tensor> by_depth;  // [D − first + 1] of [B, T, C]; empty if never measured
};

/// What drafts are compared with, both [B, T] i32.
struct AcceptanceTokens {
  Tensor main_argmax;  // the main model's likeliest tokens
  Tensor agrees;  // 1 if a position's drafts agree with them at all depths so far; depth 1 initializes it
};

/// Buffers of one microbatch in flight at one end of the link.
struct HeadsLink {
  Tensor hidden;  // [B, T, C]
  AcceptanceTokens tokens;
  DepthGradients gradients;
  // Flat message buffers at their largest size; the members above are views of them.
  Tensor downstream, upstream;

  /// The part that is sent: all of it only if the step counts drafts, or measures gradients at the trunk.
  Tensor downstream_message(bool counts) const {
    return counts ? downstream : downstream.flat(0, hidden.elements());
  }
  Tensor upstream_message(bool measures) const {
    return measures ? upstream : upstream.flat(0, hidden.elements());
  }
};

/// `measured`: the number of depths whose gradients may be measured, 0 or D − first + 1.
HeadsLink plan_link(Arena& arena, const ActivationPlan& plan, std::int64_t hidden_size, int measured);

}  // namespace foretoken
