#pragma once
// Messages between two neighbouring stages if each depth has a stage of its own
// (MtpConfig::Placement::stage_per_depth). The later of the two stages holds depth `first`, the stages after
// it hold the depths up to D. One message goes downstream in place of an activation, one goes upstream in
// place of a gradient.
//
//   downstream  hidden, the input of depth `first`: for heads in a chain the hidden state of the previous
//               depth, for others the trunk tensor that all of them read. If drafts are counted, also the
//               main model's likeliest tokens and, per position, whether the drafts of all depths so far
//               equal them.
//   upstream    the gradient of `hidden`, summed over the losses of depths first..D. If gradients at the
//               trunk are measured, also the gradients of the single depths.

#include <vector>

#include "model/layer_context.h"
#include "runtime/arena.h"

namespace foretoken {

/// Gradients of a tensor that depths first..D read.
struct DepthGradients {
  Tensor sum;                    // [B, T, C]
  std::vector<Tensor> by_depth;  // [D − first + 1], each [B, T, C]; empty if no step measures them
};

/// The tokens that drafts are compared with, and the result so far. Both are [B, T] i32.
struct AcceptanceTokens {
  Tensor main_argmax;  // the main model's likeliest tokens
  Tensor agrees;  // 1 if a position's drafts of all depths so far equal main_argmax; depth 1 initializes it
};

/// Buffers of one microbatch in flight at one end of the link.
struct HeadsLink {
  Tensor hidden;  // [B, T, C]
  AcceptanceTokens tokens;
  DepthGradients gradients;
  // Flat message buffers at their largest size; the members above are views of them.
  Tensor downstream, upstream;

  // The part of a buffer that is sent. The whole buffer is sent only if the step counts drafts (downstream)
  // or measures gradients at the trunk (upstream).
  Tensor downstream_message(bool counts) const {
    return counts ? downstream : downstream.flat(0, hidden.elements());
  }
  Tensor upstream_message(bool measures) const {
    return measures ? upstream : upstream.flat(0, hidden.elements());
  }
};

/// `measured_depths` is the number of depths whose gradients may be measured: 0 or D − first + 1.
HeadsLink plan_link(Arena& arena, const ActivationPlan& plan, std::int64_t hidden_size, int measured_depths);

}  // namespace foretoken
