#pragma once
// What goes between two stages of which the later holds prediction heads of depths first..D, one depth a
// stage (MtpConfig::Placement::stage_per_depth): one message down, in the place of an activation, and one
// back, in the place of its gradient.
//
//   down   hidden, what depth `first` reads: of heads in a chain the state of the depth before, of others the
//          tensor of the trunk that all of them read; where drafts are counted, the main model's likeliest
//          tokens and which drafts so far agree with them
//   up     the sum over depths first..D of what their losses give `hidden`; where gradients at the trunk are
//          measured, that of each alone

#include <vector>

#include "model/layer_context.h"
#include "runtime/arena.h"

namespace foretoken {

/// Of a tensor that depths first..D read.
struct DepthGradients {
  Tensor sum;                    // [B, T, C]
  std::vector<Tensor> by_depth;  // [D − first + 1] of [B, T, C]; empty where they are never measured
};

/// Of one microbatch in flight, at one end.
struct HeadsLink {
  Tensor hidden;               // [B, T, C]
  Tensor main_argmax, agrees;  // [B, T] i32
  DepthGradients gradients;
  Tensor down, up;  // the messages at their largest, flat

  bool defined() const { return hidden.defined(); }
  Tensor message_down(bool counts) const { return counts ? down : down.flat(0, hidden.elements()); }
  Tensor message_up(bool measures) const { return measures ? up : up.flat(0, hidden.elements()); }
};

/// `measured`: how many depths' gradients are ever measured, 0 or D − first + 1.
HeadsLink plan_link(Arena& arena, const ActivationPlan& plan, std::int64_t hidden_size, int measured);

}  // namespace foretoken
