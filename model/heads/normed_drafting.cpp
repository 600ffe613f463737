#include "model/heads/normed_drafting.h"

namespace foretoken {

NormedDrafting::NormedDrafting(const DraftingPlan& plan, MakeHeads make) : context_{.stream = plan.stream} {
  const ActivationPlan activations{.shape = {.rows = plan.outputs, .length = 1}, .dtype = plan.cache.dtype};
  heads_ = make({.stream = plan.stream,
                 .model = plan.model,
                 .mtp = plan.mtp,
                 .parameters = plan.parameters,
                 .arena = plan.cache.arena,
                 .activations = activations,
                 .scratch = {}});
  input_ = plan.cache.arena.tensor(plan.cache.dtype, {plan.outputs, 1, plan.model.hidden_size});
  heads_->add_slot({.normed = input_}, {});
}

HeadDrafting::Output NormedDrafting::output(int depth, const Tensor& slots, const StateCache& trunk) const {
  const std::int64_t n = slots.elements(), m = input_.shape[0], c = input_.shape[2];
  trunk.states().load(context_.stream, slots, input_.view({m, c}).rows(0, n));
  const Tensor hidden = heads_->hidden(context_, 0, depth).view({m, c}).rows(0, n);
  return {hidden, heads_->output(depth).weight};
}

}  // namespace foretoken
