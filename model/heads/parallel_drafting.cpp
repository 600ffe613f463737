#include "model/heads/parallel_drafting.h"

#include "model/parameter_names.h"

namespace foretoken {

ParallelDrafting::ParallelDrafting(const DraftingPlan& plan)
    : stream_(plan.stream),
      output_matrix_(plan.output_matrix),
      scratch_(plan.scratch),
      last_input_(plan.cache, plan.model.hidden_size) {
  const auto depths = static_cast<int>(plan.mtp.depths);
  for (int depth = 1; depth <= depths; ++depth)
    depths_.push_back(make_cached_depth(plan, depth, final_norm_name, StateCache::Kept::normed));
}

void ParallelDrafting::forward(int depth, const DepthRows& rows, const StateCache&) const {
  const Tensor x = scratch_.x.rows(0, rows.rows.count());
  last_input_.load(stream_, rows.rows.slots, x);
  at(depth).forward(rows.rows, x, scratch_);
}

HeadDrafting::Output ParallelDrafting::output(int depth, const Tensor& slots, const StateCache&) const {
  return {at(depth).states.load_normed(stream_, slots, scratch_), output_matrix_};
}

}  // namespace foretoken
