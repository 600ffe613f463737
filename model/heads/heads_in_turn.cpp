#include "model/heads/heads_in_turn.h"

#include "runtime/operators/rowwise/elementwise.h"

namespace foretoken {

HeadsInTurn::HeadsInTurn(const HeadsPlan& plan, Outputs outputs, bool reads_dhidden)
    : PredictionHeads(plan, outputs) {
  const MicrobatchShape& shape = plan.activations.shape;
  if (reads_dhidden && first() <= last())
    dhidden_ = plan.arena.tensor(plan.activations.dtype, {shape.rows, shape.length, plan.model.hidden_size});
}

void HeadsInTurn::add_slot(const TrunkTensors& trunk, const TrunkTensors& dtrunk) {
  slots_.push_back({trunk, dtrunk});
}

void HeadsInTurn::backward(const Backward& op) const {
  if (!op.halves.input) return;
  const StagePass& pass = op.pass;
  LayerContext context = pass.layers;
  context.halves_run.weight = context.halves_run.input;  // a head's weight half runs in backward's input half
  Turn turn{.context = context, .slot = pass.slot};
  if (has_deeper(pass.input) && !detached_) {
    int depth = last();
    if (op.probe)
      for (const Tensor& gradient : op.deeper->by_depth) op.probe->add(pass, ++depth, gradient);
    join(turn, op.deeper->sum);
    turn.first = false;
  }
  for (turn.depth = first(); turn.depth <= last(); ++turn.depth) {
    if (!pass.input.depths.has(turn.depth)) continue;
    op.loss({.depth = turn.depth,
             .hidden = hidden(context, pass.slot, turn.depth),
             .matrix = output(turn.depth),
             .dhidden = dhidden_});
    const std::optional<Tensor> gradient = head_backward(turn);
    if (!gradient) continue;
    if (op.probe) op.probe->add(pass, turn.depth, *gradient);
    join(turn, *gradient);
    turn.first = false;
  }
}

void HeadsInTurn::join(const Turn& turn, const Tensor& gradient) const {
  add(turn.context.stream, gradient, at(turn.slot).dtrunk.normed);
}

}  // namespace foretoken
