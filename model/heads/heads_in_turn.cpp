#include "model/heads/heads_in_turn.h"

namespace foretoken {

HeadsInTurn::HeadsInTurn(const HeadsPlan& plan)
    : PredictionHeads(plan),
      dhidden_(plan.arena.tensor(
          plan.activations.dtype,
          {plan.activations.shape.rows, plan.activations.shape.length, plan.model.hidden_size})) {}

void HeadsInTurn::add_slot(const TrunkTensors& trunk, const TrunkTensors& dtrunk) {
  slots_.push_back({trunk, dtrunk});
}

void HeadsInTurn::backward(const LayerContext& context, const MicrobatchInput&, int slot, Halves halves,
                           const DepthLoss& loss) const {
  if (!halves.input) return;
  LayerContext turn = context;
  turn.begun.weight = context.begun.input;
  for (int depth = 1; depth <= depths(); ++depth) {
    loss(depth, hidden(turn, slot, depth), output(depth), dhidden_);
    head_backward(turn, slot, depth, dhidden_);
  }
}

}  // namespace foretoken
