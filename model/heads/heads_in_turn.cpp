#include "model/heads/heads_in_turn.h"

#include "runtime/operators/elementwise.h"

namespace foretoken {

HeadsInTurn::HeadsInTurn(const HeadsPlan& plan)
    : PredictionHeads(plan),
      dhidden_(plan.arena.tensor(
          plan.activations.dtype,
          {plan.activations.shape.rows, plan.activations.shape.length, plan.model.hidden_size})) {}

void HeadsInTurn::add_slot(const TrunkTensors& trunk, const TrunkTensors& dtrunk) {
  slots_.push_back({trunk, dtrunk});
}

void HeadsInTurn::backward(const LayerContext& context, const MicrobatchInput& input, int slot, Halves halves,
                           const DepthLoss& loss, const TrunkProbe& probe) const {
  if (!halves.input) return;
  LayerContext turn = context;
  turn.begun.weight = context.begun.input;
  bool first = true;
  for (int depth = 1; depth <= depths(); ++depth) {
    if (!input.depths.has(depth)) continue;
    loss(depth, hidden(turn, slot, depth), output(depth), dhidden_);
    const Tensor gradient = head_backward(turn, slot, depth, first, dhidden_);
    first = false;
    if (!gradient.defined()) continue;
    if (probe) probe(depth, gradient);
    join(turn, slot, gradient);
  }
}

void HeadsInTurn::join(const LayerContext& context, int slot, const Tensor& gradient) const {
  add(context.stream, gradient, at(slot).dtrunk.normed);
}

}  // namespace foretoken
