#include "model/heads/heads_in_turn.h"

#include "runtime/operators/rowwise/elementwise.h"

namespace foretoken {

HeadsInTurn::HeadsInTurn(const HeadsPlan& plan, Outputs outputs) : PredictionHeads(plan, outputs) {
  const MicrobatchShape& shape = plan.activations.shape;
  if (first() <= last())
    dhidden_ = plan.arena.tensor(plan.activations.dtype, {shape.rows, shape.length, plan.model.hidden_size});
}

void HeadsInTurn::add_slot(const TrunkTensors& trunk, const TrunkTensors& dtrunk) {
  slots_.push_back({trunk, dtrunk});
}

void HeadsInTurn::backward(const LayerContext& context, const MicrobatchInput& input, int slot, Halves halves,
                           const DepthLoss& loss, const TrunkProbe& probe,
                           const DepthGradients& deeper) const {
  if (!halves.input) return;
  LayerContext turn = context;
  turn.halves_run.weight = context.halves_run.input;
  bool is_first = true;
  if (has_deeper(input) && !detached_) {
    int depth = last();
    if (probe)
      for (const Tensor& gradient : deeper.by_depth) probe(++depth, gradient);
    join(turn, slot, deeper.sum, is_first);
    is_first = false;
  }
  for (int depth = first(); depth <= last(); ++depth) {
    if (!input.depths.has(depth)) continue;
    loss(depth, hidden(turn, slot, depth), output(depth), dhidden_);
    const Tensor gradient = head_backward(turn, slot, depth, is_first, dhidden_);
    if (!gradient.defined()) continue;
    if (probe) probe(depth, gradient);
    join(turn, slot, gradient, is_first);
    is_first = false;
  }
}

void HeadsInTurn::join(const LayerContext& context, int slot, const Tensor& gradient, bool) const {
  add(context.stream, gradient, at(slot).dtrunk.normed);
}

}  // namespace foretoken
